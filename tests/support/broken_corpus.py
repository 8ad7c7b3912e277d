"""Ways to break the smallest corpus, one of a kind, and the codes that each gets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from support.folders import touch
from support.small_corpus import NUM_FRAMES, VARIED, crops, film, label, labels_of

Break = Callable[[Path], object]


def video(root: Path, track: str = "a") -> Path:
    return root / f"videos/{track}.mp4"


def write(text: str | bytes, track: str = "a") -> Break:
    """The labels of a track replaced."""
    data = text if isinstance(text, bytes) else text.encode()
    return lambda root: labels_of(root, track).write_bytes(data)


def edit(line: int, text: str) -> Break:
    """One line of the labels of a replaced; the header is line 1."""

    def change(root: Path) -> None:
        lines = labels_of(root, "a").read_text().splitlines()
        lines[line - 1] = text
        labels_of(root, "a").write_text("\n".join([*lines, ""]))

    return change


def torn_avi(root: Path) -> None:
    """Cut in the middle; the header still says how many pictures there were."""
    video(root).unlink()
    path = film(root / "videos/a.avi")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut(root: Path) -> None:
    video(root).write_bytes(video(root).read_bytes()[:2000])


def playlist(root: Path) -> None:
    video(root).write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://localhost:1/x.ts\n#EXT-X-ENDLIST\n")


def wide(root: Path) -> None:
    video(root).unlink()
    film(root / "videos/a.avi", num_frames=2, size=(9000, 16), codec="rawvideo")


def late_sound(root: Path) -> None:
    film(video(root), sound_s=2.0)


def uneven(root: Path) -> None:
    video(root).unlink()
    film(root / "videos/a.mkv", pts=[n if n < 50 else n + 40 for n in range(NUM_FRAMES)], sound_s=6)


def outside(root: Path) -> None:
    secret = film(root.parent / "secret.mp4")
    video(root).unlink()
    video(root).symlink_to(secret)


def leak(root: Path) -> None:
    label(labels_of(root, "b_left"), VARIED)
    crops(root / "cropped_aligned/b_left", [1])


def overlap(root: Path) -> None:
    shutil.copytree(root / "videos", root / "batch2")


def labels_elsewhere(root: Path) -> None:
    (root / "VA_Estimation_Challenge/Train_Set").rename(root / "mine")
    shutil.rmtree(root / "VA_Estimation_Challenge")


def everything_gone(root: Path) -> None:
    for path in root.iterdir():
        shutil.rmtree(path)


def cropless(root: Path) -> None:
    shutil.rmtree(root / "cropped_aligned/a")


def zero_crop(root: Path) -> None:
    (root / "cropped_aligned/a/00001.jpg").rename(root / "cropped_aligned/a/00000.jpg")


def rotten(root: Path) -> None:
    """Noise over the middle of the pictures; the index at the end is whole."""
    path = video(root)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle - 8000 : middle + 8000] = np.random.default_rng(1).bytes(16000)
    path.write_bytes(data)


def torn_crop(root: Path) -> None:
    """The first bytes of a JPEG."""
    (root / "cropped_aligned/a/00043.jpg").write_bytes(b"\xff\xd8\xff\xe0\0")


def crlf(root: Path) -> None:
    write(b"\xef\xbb\xbf" + labels_of(root, "a").read_bytes().replace(b"\n", b"\r\n"))(root)


NO_SOUND = "VAL-NO-SOUND"
HEADER = "valence,arousal\n"
ERRORS: dict[str, tuple[Break, list[str]]] = {
    "empty video": (lambda root: video(root).write_bytes(b""), ["MED-EMPTY"]),
    "truncated video": (torn_avi, ["MED-SHORT"]),
    "video cut before its index": (cut, ["MED-DECODE"]),
    "noise instead of a video": (lambda root: video(root).write_bytes(b"noise" * 99), ["MED-DECODE"]),
    "no video stream": (lambda root: film(video(root), num_frames=0, sound_s=4), ["MED-NO-VIDEO"]),
    "absurd dimensions": (wide, ["MED-SIZE"]),
    "a playlist that poses as a video": (playlist, ["MED-DECODE"]),
    "a control character in a name": (lambda root: touch(root, "videos/a\tb.mp4"), ["CAT-NAME"]),
    "dots for a name": (lambda root: touch(root, "videos/..mp4"), ["CAT-NAME"]),
    "a link out of the root": (outside, ["CAT-LINK"]),
    "two names that fold to one": (lambda root: touch(root, "videos/A.mp4"), ["CAT-FOLD"]),
    "one name, two files": (lambda root: touch(root, "batch2/a.mp4"), ["CAT-DUPLICATE"]),
    "labels where nobody looks": (labels_elsewhere, ["CAT-LABELS"]),
    "nothing at all": (everything_gone, ["CAT-EMPTY"]),
    "no folder": (shutil.rmtree, ["CAT-ROOT"]),
    "header missing": (lambda root: write(labels_of(root, "a").read_text()[len(HEADER) :])(root), ["ANN-HEADER"]),
    "header doubled": (edit(2, HEADER.strip()), ["ANN-HEADER"]),
    "header swapped": (edit(1, "arousal,valence"), ["ANN-HEADER"]),
    "header with semicolons": (edit(1, "valence;arousal"), ["ANN-HEADER"]),
    "UTF-16": (write((HEADER + "0,0\n").encode("utf-16")), ["ANN-ENCODING"]),
    "Latin-1": (write(HEADER.encode() + b"0,\xb5\n"), ["ANN-ENCODING"]),
    "zeros after a crash": (write(HEADER.encode() + b"\0" * 50), ["ANN-ENCODING"]),
    "a login page": (write("<!DOCTYPE html><title>Log in</title>"), ["ANN-HTML"]),
    "a Git LFS pointer": (write("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), ["ANN-POINTER"]),
    "CR-only line ends": (lambda root: write(labels_of(root, "a").read_text().replace("\n", "\r"))(root), ["ANN-CR"]),
    "text in a number": (edit(7, "0.5,happy"), ["ANN-NUMBER"]),
    "NaN": (edit(7, "nan,0"), ["ANN-FINITE"]),
    "infinity": (edit(7, "0,-inf"), ["ANN-FINITE"]),
    "three columns": (edit(7, "0,0,0"), ["ANN-COLUMNS"]),
    "an empty line": (edit(7, ""), ["ANN-COLUMNS"]),
    "all masked": (write(HEADER + "-5,-5\n" * NUM_FRAMES), ["ANN-MASKED"]),
    "only one is -5": (edit(7, "-5,0.5"), ["ANN-HALF"]),
    "out of the range": (edit(7, "1.0000001,0"), ["ANN-RANGE"]),
    "an empty label file": (write(""), ["ANN-HEADER"]),
    "a header alone": (write(HEADER), ["ANN-EMPTY"]),
    "rows and frames differ": (lambda root: label(labels_of(root, "a"), VARIED[:50]), ["VAL-COUNT", "VAL-COUNT"]),
    "labels without a video": (lambda root: label(labels_of(root, "z"), VARIED), ["VAL-NO-VIDEO"]),
    "one video in two splits": (leak, ["VAL-LEAK"]),
    "a torn crop": (torn_crop, ["MED-CROP"]),
    "a crop of frame 0": (zero_crop, ["MED-CROP-INDEX"]),
    "crops beyond the end": (lambda root: crops(root / "cropped_aligned/a", [150]), ["VAL-COUNT"]),
    "no crops beside others": (cropless, ["MED-CROPS"]),
}
WARNINGS: dict[str, tuple[Break, list[str]]] = {
    "no sound": (lambda root: film(video(root)), [NO_SOUND]),
    "sound that ends early": (late_sound, ["VAL-SOUND-SHORT"]),
    "a variable rate": (uneven, ["VAL-RATE"]),
    "some masked": (lambda root: label(labels_of(root, "a"), VARIED, masked=25), ["VAL-MASKED"]),
    "a constant label": (lambda root: label(labels_of(root, "a"), VARIED * [1, 0]), ["VAL-CONSTANT"]),
    "a video without labels": (lambda root: labels_of(root, "b").unlink(), ["VAL-NO-LABEL"]),
    "batches that overlap": (overlap, ["CAT-OVERLAP", "CAT-OVERLAP"]),
    "crops without their video": (lambda root: video(root).unlink(), [NO_SOUND]),
    "no crops at all": (lambda root: shutil.rmtree(root / "cropped_aligned"), ["VAL-NO-CROPS"]),
}
HARMLESS: dict[str, Break] = {
    "nothing": lambda root: None,
    "BOM and CRLF": crlf,
    "litter of tools": lambda root: touch(root, "videos/._a.mp4", "videos/.DS_Store", "__MACOSX/videos/a.mp4"),
    "a frame without a face": lambda root: (root / "cropped_aligned/a/00050.jpg").unlink(),
}
# whose first tracks are encoded together
FILES: dict[str, Break] = {
    "empty": ERRORS["empty video"][0],
    "torn": torn_avi,
    "cut": cut,
    "sound": ERRORS["no video stream"][0],
    "list": playlist,
    "crop": ERRORS["a torn crop"][0],
    "cropless": cropless,
    "zero": zero_crop,
    "short": late_sound,
    "uneven": uneven,
    "rotten": rotten,
    "clean": HARMLESS["nothing"],
}
