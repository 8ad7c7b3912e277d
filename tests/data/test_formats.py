"""Data sets in every format: a rendered corpus that is written in it reads back to the same labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from affectgrid.data.annotations import Annotation, read_annotation
from affectgrid.data.catalog import Catalog, format_names, read_catalog
from affectgrid.data.validation import validate
from affectgrid.errors import AffectGridError
from affectgrid.media.video import probe_video
from affectgrid.synthetic.rendered.config import RenderConfig
from affectgrid.synthetic.rendered.corpus import render_corpus
from support.formats import WRITERS, Sample, recola_name, samples, text, write

BY_FRAME = ("aff-wild2", "afew-va", "veatic", "table", "table in Parquet")
BY_TIME = {"muse-car": 0.06, "recola": 0.02, "recola of its authors": 0.02}  # how far interpolation may be off


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Two videos of one person, one of two persons, a gap in the labels; a video longer than its labels."""
    root = tmp_path_factory.mktemp("corpus")
    render_corpus(root, RenderConfig(num_train=3, num_validation=1, num_test=0, duration_s=3.0, seed=7))
    return samples(root)


def labels_of(catalog: Catalog, place: int) -> Annotation:
    track = catalog.tracks[place]
    assert track.annotation is not None
    return read_annotation(track.annotation, lambda: probe_video(track.video).frame_times_s)


def named(name: str, tracks: list[Sample]) -> list[tuple[str, str]]:
    """What each track is called, and its split."""
    if name == "afew-va":
        return [(f"{number:03}", "train") for number, _ in enumerate(tracks, 1)]
    if name == "recola of its authors":
        return [(f"P{number}", "train") for number, _ in enumerate(tracks, 16)]
    if name == "recola":
        return sorted((recola_name(track), track.split) for track in tracks)
    return [(track.id, "train" if name == "veatic" else track.split) for track in tracks]


@pytest.mark.parametrize("name", [*BY_FRAME, *BY_TIME])
def test_it_reads_back_to_the_same_labels(tmp_path: Path, tracks: list[Sample], name: str) -> None:
    catalog = read_catalog(write(tmp_path, name, tracks))  # recognised
    assert [(track.id, track.split) for track in catalog.tracks] == named(name, tracks)
    order = sorted(tracks, key=recola_name) if name == "recola" else tracks
    for place, sample in enumerate(order):
        found = labels_of(catalog, place)
        frames = min(found.num_frames, len(sample.va))
        va = np.where(found.valid[:, None], found.va, np.nan)[:frames]
        tolerance = BY_TIME.get(name, 1e-6)
        both = np.isfinite(va) & np.isfinite(sample.va[:frames])
        assert np.abs(va - sample.va[:frames])[both].max() <= tolerance
        if name in BY_FRAME:
            last = np.flatnonzero(sample.labels.valid)[-1] + 1
            assert (found.valid[:last] == sample.labels.valid[:last]).all()
            assert not found.valid[last:].any()
        else:  # up to a step is lost at the end, and at each end of a gap
            assert found.num_frames == len(sample.time_s)
            assert not (np.isfinite(va) & ~np.isfinite(sample.va[:frames])).any()
            assert both.all(axis=1).mean() > 0.75


def test_interpolation_is_linear_between_the_labels(tmp_path: Path, tracks: list[Sample]) -> None:
    catalog = read_catalog(write(tmp_path, "muse-car", tracks[-2:]))
    found, (at, va) = labels_of(catalog, 0), tracks[-2].sampled(0.25)
    time_s = tracks[-2].time_s
    assert (found.valid == (time_s <= at[-1] + 1e-3)).all()
    for axis in (0, 1):
        np.testing.assert_allclose(
            found.va[found.valid, axis], np.interp(time_s, at, va[:, axis])[found.valid], atol=1e-6
        )


def test_an_utterance_has_one_label(tmp_path: Path, tracks: list[Sample]) -> None:
    catalog = read_catalog(write(tmp_path, "omg", tracks))
    assert [track.id for track in catalog.tracks] == [
        "rendered-001-utterance_1",
        "rendered-002-utterance_2",
        "rendered-002-utterance_3",
        "rendered-003-utterance_4",
        "rendered-004-30-1280x720-utterance_1",
    ]
    assert [track.recording for track in catalog.tracks] == [sample.video.stem for sample in tracks]
    assert [(track.split, track.person) for track in catalog.tracks] == [(s.split, "largest") for s in tracks]
    for place, sample in enumerate(tracks):
        found = labels_of(catalog, place)
        assert found.num_frames == len(sample.time_s)
        assert found.valid.all()
        np.testing.assert_allclose(found.va, np.tile(np.nanmean(sample.va, axis=0), (len(found.va), 1)), atol=1e-6)


def test_people_and_recordings_are_known(tmp_path: Path, tracks: list[Sample]) -> None:
    catalog = read_catalog(write(tmp_path / "afew", "afew-va", tracks))
    assert {track.subject for track in catalog.tracks} == {f"actor of {sample.video.stem}" for sample in tracks}
    text(tmp_path / "t/labels.csv", ["track,time_s,valence,arousal,person,recording", "a,0,0,0,Ann,r", "a,1,1,1,Ann,r"])
    (track,) = read_catalog(tmp_path / "t").tracks
    assert (track.subject, track.recording) == ("Ann", "r")


@pytest.mark.parametrize("name", ["muse-car", "afew-va"])
def test_it_is_sound(tmp_path: Path, tracks: list[Sample], name: str) -> None:
    """Indexed and decoded, as a data set is before it is encoded: labels, videos and crops belong together."""
    problems = validate(read_catalog(write(tmp_path, name, tracks)))
    assert {problem.code for problem in problems if problem.severity == "error"} == set()


def test_a_scale_of_ones_own(tmp_path: Path) -> None:
    text(tmp_path / "labels.csv", ["track,frame,valence,arousal", "a,1,1,9", "a,2,5,7"])
    catalog = read_catalog(tmp_path, label_range=(1, 9))
    np.testing.assert_allclose(labels_of_table(catalog).va, [[-1, 1], [0, 0.5]])
    text(tmp_path / "labels.csv", ["track,frame,valence,arousal", "a,1,1,9", "a,2,0.5,7"])
    with pytest.raises(AffectGridError, match=r"ANN-RANGE.*row 2.*\[1, 9\]"):
        labels_of_table(read_catalog(tmp_path, label_range=(1, 9)))


def labels_of_table(catalog: Catalog) -> Annotation:
    assert catalog.tracks[0].annotation is not None
    return read_annotation(catalog.tracks[0].annotation)


def test_the_digest_follows_the_labels_and_their_scale(tmp_path: Path) -> None:
    rows = ["track,frame,valence,arousal", "a,1,0,0", "b,1,0.5,0.25"]
    text(tmp_path / "labels.csv", rows)
    before = read_catalog(tmp_path).digest()
    assert read_catalog(tmp_path).digest() == before
    assert read_catalog(tmp_path, label_range=(-2, 2)).digest() != before
    text(tmp_path / "labels.csv", [*rows[:-1], "b,1,0.5,0.26"])
    assert read_catalog(tmp_path).digest() != before


def replace(pattern: str, old: str, new: str) -> Callable[[Path], None]:
    """Change the first such file."""

    def change(root: Path) -> None:
        path = sorted(root.glob(pattern))[0]
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))

    return change


def remove(pattern: str) -> Callable[[Path], None]:
    return lambda root: sorted(root.glob(pattern))[0].unlink()


def line(pattern: str, number: int, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = sorted(root.glob(pattern))[0]
        lines = path.read_text().split("\n")
        path.write_text("\n".join([*lines[: number - 1], new, *lines[number:]]))

    return change


def scale_up(root: Path) -> None:
    path = root / "001/001.json"
    content = json.loads(path.read_text())
    content["frames"]["00007"]["valence"] = 12.5
    path.write_text(json.dumps(content))


BROKEN = {
    "aff-wild2": [(line("**/Train_Set/*.txt", 5, "1.5,0"), "ANN-RANGE", ":5")],
    "afew-va": [
        (scale_up, "ANN-RANGE", "frames.00007: 12.5; expected a value of the scale [-10, 10]"),
        (replace("001/001.json", '"frames"', '"pictures"'), "ANN-JSON", "001.json"),
        (replace("001/001.json", '"arousal"', '"a"'), "ANN-COLUMNS", "frame 0000"),
    ],
    "veatic": [
        (line("rating_averaged/*_arousal.csv", 3, "high"), "ANN-NUMBER", ":3"),
        (line("rating_averaged/*_valence.csv", 3, "1.01"), "ANN-RANGE", "[-1, 1]"),
        (remove("rating_averaged/*_valence.csv"), "CAT-PAIR", "no valence"),
    ],
    "muse-car": [
        (line("**/arousal/*.csv", 3, "0,0.5,1"), "ANN-TIME", ":3"),
        (line("**/valence/*.csv", 1, "time,value,segment_id"), "ANN-HEADER", "timestamp"),
        (line("**/valence/*.csv", 4, "500"), "ANN-COLUMNS", ":4"),
        (line("**/partition.csv", 2, "rendered-001,dev"), "CAT-SPLIT", ":2: 'dev'"),
        (line("**/partition.csv", 2, "another,train"), "CAT-SPLIT", "'rendered-001' in no split"),
        (remove("**/partition.csv"), "CAT-SPLIT", "partition.csv"),
        (remove("raw_videos/rendered-001.mp4"), "ANN-CLOCK", "a video"),
    ],
    "recola": [
        (line("**/valence/*.arff", 12, "'x',0.12,1.2"), "ANN-RANGE", ":12"),
        (replace("**/valence/*.arff", "@data", "@date"), "ANN-HEADER", "@data"),
        (replace("**/valence/*.arff", "frameTime", "frame"), "ANN-HEADER", "a time"),
    ],
    "recola of its authors": [(line("**/valence/*.csv", 4, "0.08;0.1;x"), "ANN-NUMBER", ":4: 'x'")],
    "omg": [
        (replace("omg_TrainVideos.csv", ",utterance_1.mp4,", ",utterance_2.mp4,"), "VAL-NO-VIDEO", "utterance_2"),
        (replace("omg_TrainVideos.csv", "arousal,valence", "valence"), "ANN-HEADER", "arousal"),
        (replace("omg_TrainVideos.csv", "utterance_1.mp4,0.", "utterance_1.mp4,-0."), "ANN-RANGE", "[0, 1]"),
    ],
    "table": [
        (line("labels.csv", 4, "rendered-001,3,happy,0,train"), "ANN-NUMBER", "row 3: 'happy'"),
        (line("labels.csv", 4, "rendered-001,3,0,-1.5,train"), "ANN-RANGE", "row 3"),
        (line("labels.csv", 4, "rendered-001,2,0,0,train"), "ANN-TIME", "row 3: 2"),
        (line("labels.csv", 2, "rendered-001,0,0,0,train"), "ANN-TIME", "row 1: 0"),
        (line("labels.csv", 4, "rendered-001,third,0,0,train"), "ANN-NUMBER", "row 3: 'third'"),
        (line("labels.csv", 4, "rendered-001,3,0,0,validation"), "ANN-FACT", "row 3: split 'validation'"),
        (line("labels.csv", 4, "rendered-001,3,0"), "ANN-TABLE", "labels.csv"),
        (replace("labels.csv", "track,", "video,"), "ANN-HEADER", "add track"),
        (lambda root: (root / "labels.parquet").write_bytes(b"x"), "CAT-TABLE", "labels.parquet"),
    ],
    "table in Parquet": [(lambda root: (root / "labels.parquet").write_bytes(b"PAR1"), "ANN-TABLE", "labels.parquet")],
}
CASES = [(name, place) for name, cases in BROKEN.items() for place in range(len(cases))]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, tracks: list[Sample]) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp("unbroken"), name, tracks) for name in WRITERS}


@pytest.mark.parametrize(("name", "place"), CASES)
def test_what_is_wrong_is_told(tmp_path: Path, unbroken: dict[str, Path], name: str, place: int) -> None:
    root = tmp_path / "data"
    copy(unbroken[name], root)
    change, code, where = BROKEN[name][place]
    change(root)
    try:
        found = validate(read_catalog(root), probe=probe_video)
    except AffectGridError as error:
        found = list(error.problems)
    told = [str(problem) for problem in found if problem.code == code]
    assert any(where in one for one in told), (told, [str(problem) for problem in found])


def copy(source: Path, target: Path) -> None:
    """The labels; the rest is linked."""
    for path in source.rglob("*"):
        if path.is_file():
            here = target / path.relative_to(source)
            here.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in {".mp4", ".jpg", ".png", ".avi"}:
                here.hardlink_to(path)
            else:
                here.write_bytes(path.read_bytes())


@pytest.mark.parametrize(
    ("name", "pattern", "number", "new"),
    [
        ("veatic", "rating_averaged/*_arousal.csv", 8, "high"),
        ("table", "labels.csv", 9, "rendered-001,8,happy,0,train"),
    ],
)
def test_a_wrong_row_can_be_masked(
    tmp_path: Path, unbroken: dict[str, Path], name: str, pattern: str, number: int, new: str
) -> None:
    copy(unbroken[name], tmp_path / "data")
    line(pattern, number, new)(tmp_path / "data")
    (track, *_) = read_catalog(tmp_path / "data").on_bad_label("mask").tracks
    assert track.annotation is not None
    found = read_annotation(track.annotation)
    assert not found.valid[7]
    assert len(found.odd) == 1


def test_formats_are_named(tmp_path: Path, tracks: list[Sample]) -> None:
    assert format_names() == ("aff-wild2", "afew-va", "muse-car", "omg", "recola", "table", "veatic")
    write(tmp_path, "veatic", tracks)
    with pytest.raises(AffectGridError, match=r"CFG-FORMAT.*veatric.*did you mean 'veatic'"):
        read_catalog(tmp_path, "veatric")
    with pytest.raises(AffectGridError, match="CFG-RANGE"):
        read_catalog(tmp_path, label_range=(0, 1))
    write(tmp_path, "table", tracks)
    with pytest.raises(AffectGridError, match=r"CAT-FORMAT.*table and veatic"):
        read_catalog(tmp_path)
    assert read_catalog(tmp_path, "veatic") != read_catalog(tmp_path, "table")
    write(tmp_path, "aff-wild2", tracks)
    assert read_catalog(tmp_path) == read_catalog(tmp_path, "aff-wild2")
