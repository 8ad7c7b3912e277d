"""Which tracks a data set holds, and which files belong to each."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from affectgrid.errors import CatalogError, Problem
from affectgrid.media.faces import Person

SplitName = Literal["train", "validation", "test"]

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv"})
_SECOND_PERSON = re.compile(r"(.+)_(?:left|right)")
_VIDEO_FOLDERS = ("videos", "batch1", "batch2", "batch3", "new_vids", ".")
_LABEL_FOLDERS = ("VA_Estimation_Challenge", "annotations/VA_Estimation_Challenge", "annotations/VA_Set", "VA_Set")
_SPLIT_FOLDERS: dict[str, SplitName] = {
    "Train_Set": "train",
    "Training_Set": "train",
    "Validation_Set": "validation",
}


@dataclasses.dataclass(frozen=True)
class Track:
    """One person in one video.

    Args:
        id: unique, safe as a file name.
        split: train, validation or test.
        video: the raw video, shared by ``<id>_left`` and ``<id>_right``.
        crops: folder of face crops by frame index.
        annotation: labels; None in the test split and for prediction.
    """

    id: str
    split: SplitName
    video: Path | None
    crops: Path | None
    annotation: Path | None

    @property
    def person(self) -> Person:
        """Which face of the raw video is meant, as far as the id tells."""
        if self.video is None or self.video.stem == self.id:
            return "largest"
        return "left" if self.id.endswith("_left") else "right"


@dataclasses.dataclass(frozen=True)
class Catalog:
    """Tracks under a root, sorted by id. Ids are unique within a split; ``validate`` reports one in two splits."""

    root: Path
    tracks: tuple[Track, ...]

    def split(self, name: str) -> tuple[Track, ...]:
        """Tracks of a split, sorted by id."""
        return tuple(track for track in self.tracks if track.split == name)

    def digest(self) -> str:
        """sha256 over ids, splits, the annotations' bytes and the videos' sizes; no folder and no date enters."""
        digest = hashlib.sha256()
        for track in self.tracks:
            size = track.video.stat().st_size if track.video else -1
            labels = hashlib.sha256(track.annotation.read_bytes()).hexdigest() if track.annotation else "-"
            digest.update(f"{track.id}\0{track.split}\0{size}\0{labels}\n".encode())
        return digest.hexdigest()


def read_aff_wild2(root: Path) -> Catalog:
    """Find the tracks of a folder in Aff-Wild2's layout.

    Videos in ``videos/``, ``batch1/``, ``batch2/`` or the root; crops in ``cropped_aligned/<track>/``; labels in
    ``VA_Estimation_Challenge/{Train_Set,Validation_Set}`` or the older ``annotations/VA_Set/...``. Crops or videos that
    no label names are the test split. Raises CatalogError with every finding at once: CAT-ROOT, CAT-EMPTY, CAT-NAME,
    CAT-LINK, CAT-FOLD, CAT-DUPLICATE.
    """
    root = _require_folder(root)
    problems: list[Problem] = []
    videos = _videos(root, [root / name for name in _VIDEO_FOLDERS], problems)
    crops = _by_id(root, _crop_folders(root), problems)
    labels: list[tuple[str, SplitName, Path]] = []
    for folder, split in _label_folders(root):
        found = _by_id(root, sorted(folder.glob("*.txt")), problems)
        labels.extend((name, split, path) for name, path in found.items())
    tracks = [Track(i, split, _video_of(i, videos), crops.get(i), path) for i, split, path in labels]
    labelled = {track.id for track in tracks}
    used = {track.video for track in tracks}
    tracks += [Track(i, "test", _video_of(i, videos), crops[i], None) for i in crops if i not in labelled]
    used |= {track.video for track in tracks}
    tracks += [Track(i, "test", path, None, None) for i, path in videos.items() if path not in used]
    return _catalog(root, tracks, problems)


def read_folder(root: Path) -> Catalog:
    """Videos without labels, for prediction: the videos of a folder, or one video. All are in the test split.

    Raises CatalogError as ``read_aff_wild2`` does.
    """
    problems: list[Problem] = []
    if root.is_file():
        single = root.absolute()
        return _catalog(single.parent, [Track(_stem(single), "test", single, None, None)], problems)
    root = _require_folder(root)
    videos = _videos(root, [root], problems)
    return _catalog(root, [Track(i, "test", path, None, None) for i, path in videos.items()], problems)


def _catalog(root: Path, tracks: Iterable[Track], problems: list[Problem]) -> Catalog:
    ordered = tuple(sorted(tracks, key=lambda track: (track.id, track.split)))
    folded: dict[str, set[str]] = defaultdict(set)
    for track in ordered:
        # what a file system that ignores case, or another Unicode form, would take for one name
        folded[unicodedata.normalize("NFC", track.id).casefold()].add(track.id)
        if fault := _name_fault(track.id):
            problems.append(
                Problem(
                    "CAT-NAME",
                    where=repr(track.id),
                    found=fault,
                    expected="a plain file name",
                    hint="rename the video and its labels",
                )
            )
    for names in folded.values():
        if len(names) > 1:
            found = " and ".join(repr(name) for name in sorted(names))
            problems.append(
                Problem(
                    "CAT-FOLD",
                    where=str(root),
                    found=found,
                    expected="ids that differ in more than case",
                    hint="rename one",
                )
            )
    if not ordered and not problems:
        expected = "videos/, cropped_aligned/ or VA_Estimation_Challenge/"
        problems.append(
            Problem(
                "CAT-EMPTY",
                where=str(root),
                found="no track",
                expected=expected,
                hint="point to the data set's top folder",
            )
        )
    if problems:
        raise CatalogError(*problems)
    return Catalog(root, ordered)


def _name_fault(name: str) -> str | None:
    if name in {"", ".", ".."} or name.startswith("."):
        return "empty, or begins with a dot"
    if any(unicodedata.category(char) in {"Cc", "Cs"} or char in '/\\:*?"<>|' for char in name):
        return 'holds a control character or one of / \\ : * ? " < > |'
    return "longer than 200 bytes" if len(name.encode()) > 200 else None


def _require_folder(root: Path) -> Path:
    if "\0" in str(root) or not root.is_dir():
        raise CatalogError(
            Problem(
                "CAT-ROOT",
                where=repr(str(root)),
                found="no such folder",
                expected="the data set's top folder",
                hint="check the path",
            )
        )
    return root.resolve()


def _videos(root: Path, folders: Iterable[Path], problems: list[Problem]) -> dict[str, Path]:
    paths = [p for f in folders if f.is_dir() for p in sorted(f.iterdir()) if p.suffix.lower() in VIDEO_SUFFIXES]
    return _by_id(root, paths, problems)


def _crop_folders(root: Path) -> list[Path]:
    parents = (root / "cropped_aligned", root / "cropped_aligned_images" / "cropped_aligned")
    return [path for parent in parents if parent.is_dir() for path in sorted(parent.iterdir()) if path.is_dir()]


def _label_folders(root: Path) -> list[tuple[Path, SplitName]]:
    """The newest layout that is there: a data set may ship both, and their files are the same."""
    for name in _LABEL_FOLDERS:
        found = [(root / name / sub, split) for sub, split in _SPLIT_FOLDERS.items() if (root / name / sub).is_dir()]
        if found:
            return found
    return []


def _by_id(root: Path, paths: Iterable[Path], problems: list[Problem]) -> dict[str, Path]:
    """Paths by track id; links that leave the root, and two files of one id, become problems."""
    found: dict[str, Path] = {}
    for path in paths:
        name = _stem(path)
        if not path.resolve().is_relative_to(root):
            outside = f"a link to {path.resolve()}"
            problems.append(
                Problem(
                    "CAT-LINK",
                    where=str(path),
                    found=outside,
                    expected=f"files under {root}",
                    hint="copy the file there",
                )
            )
        elif name in found:
            twins = f"{found[name].relative_to(root)} and {path.relative_to(root)}"
            problems.append(
                Problem(
                    "CAT-DUPLICATE", where=str(root), found=twins, expected=f"one file for {name!r}", hint="remove one"
                )
            )
        else:
            found[name] = path
    return found


def _stem(path: Path) -> str:
    """The track id: without the suffix of a file; of a folder the whole name."""
    return path.name if path.is_dir() else path.stem


def _video_of(name: str, videos: dict[str, Path]) -> Path | None:
    if name in videos:
        return videos[name]
    match = _SECOND_PERSON.fullmatch(name)
    return videos.get(match[1]) if match else None
