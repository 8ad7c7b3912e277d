"""Whatever a file of labels or of splits holds, only coded errors leave the formats' readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from affectgrid.data.annotations import OnBadLabel, read_annotation
from affectgrid.data.catalog import Catalog, Track, read_catalog
from affectgrid.data.splits.assignment import with_splits
from support.formats import text
from support.fuzzing import coded, damaged

SOME = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
CELLS = st.sampled_from(
    ["0.5", "-5", "1e999", "nan", "?", "", " ", "٠", "1_0", '"', "'a'", "0x1", "-1", "250", "{0 1}"]
)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=5), max_size=5)


def rows(separator: str, *head: str) -> st.SearchStrategy[bytes]:
    """A header and rows of odd cells, perhaps damaged."""
    lines = ROWS.map(lambda own: "\n".join([*head, *(separator.join(cells) for cells in own)]).encode())
    return st.one_of(lines, damaged(lines), st.binary(max_size=40))


FRAMES = st.dictionaries(
    st.sampled_from(["00000", "00001", "1", "x", "-1", "9" * 30]),
    st.one_of(st.none(), st.dictionaries(st.sampled_from(["valence", "arousal"]), st.one_of(st.floats(), st.text()))),
)
CLIPS = st.one_of(st.just({}), FRAMES.map(lambda frames: {"frames": frames}), st.just([]), st.just({"frames": 1}))
JSON = CLIPS.map(lambda content: json.dumps(content).encode())
OMG = ("link,start,end,video,utterance,arousal,valence,EmotionMaxVote", "x,0,1,v,u.mp4,0.5,0.5,4")
ARFF = ("@relation x", "@attribute name string", "@attribute frameTime numeric", "@attribute value numeric", "@data")

# the file that is filled with anything, what else there must be, and what it is filled with
FILES: dict[str, tuple[str, tuple[str, ...], st.SearchStrategy[bytes]]] = {
    "afew-va": ("001/001.json", ("001/00000.png",), st.one_of(JSON, damaged(JSON))),
    "veatic": ("rating_averaged/a_valence.csv", ("rating_averaged/a_arousal.csv",), rows(",")),
    "muse-car": (
        "label_segments/valence/a.csv",
        ("label_segments/arousal/a.csv", "metadata/partition.csv"),
        rows(",", "timestamp,value,segment_id"),
    ),
    "recola": (
        "ratings_gold_standard/valence/a.arff",
        ("ratings_gold_standard/arousal/a.arff",),
        rows(",", *ARFF),
    ),
    "omg": ("omg_TrainVideos.csv", (), rows(",", *OMG)),
    "table": ("labels.csv", (), rows(",", "track,frame,valence,arousal,split")),
}
OTHERS = {
    "a_arousal.csv": ["0.5", "0.25"],
    "a.csv": ["timestamp,value,segment_id", "0,0.5,1", "250,0.25,1"],
    "partition.csv": ["Id,Proposal", "a,train"],
    "a.arff": [*ARFF, "x,0.0,0.5", "x,0.04,0.25"],
    "00000.png": [],
}


def read_all(root: Path, name: str, on_bad: OnBadLabel) -> None:
    """The catalog, and the labels of its tracks at the times of a video."""
    for track in read_catalog(root, name).on_bad_label(on_bad).tracks:
        if track.annotation is not None:
            read_annotation(track.annotation, lambda: np.arange(10) / 25)


@pytest.mark.parametrize("name", FILES)
def test_labels(tmp_path: Path, name: str) -> None:
    target, others, content = FILES[name]
    for other in others:
        text(tmp_path / other, OTHERS[Path(other).name])

    @SOME
    @given(content, st.sampled_from(["refuse", "mask"]))
    def run(data: bytes, on_bad: OnBadLabel) -> None:
        (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / target).unlink(missing_ok=True)
        (tmp_path / target).write_bytes(data)
        assert all(code.startswith(("ANN-", "CAT-")) for code in coded(lambda: read_all(tmp_path, name, on_bad)))

    run()


COLUMNS: dict[str, Callable[[], pa.Array]] = {
    "track": lambda: pa.array(["a", None, ""]),
    "frame": lambda: pa.array([1.5, None, float("inf")]),
    "time_s": lambda: pa.array([b"x", b"1", b""]),
    "valence": lambda: pa.array([[1], [2], None]),
    "arousal": lambda: pa.array([True, None, False]),
    "split": lambda: pa.array([1, 2, 3]),
}


@SOME
@given(st.dictionaries(st.sampled_from([*COLUMNS]), st.sampled_from([*COLUMNS.values()]), min_size=1))
def test_parquet_of_odd_types(tmp_path: Path, columns: dict[str, Callable[[], pa.Array]]) -> None:
    path = tmp_path / "labels.parquet"
    path.unlink(missing_ok=True)
    pa.parquet.write_table(pa.table({name: make() for name, make in columns.items()}), path)
    found = coded(lambda: read_all(tmp_path, "table", "refuse"))
    assert all(code.startswith(("ANN-", "CAT-")) for code in found)


SPLITS = st.one_of(
    rows(",", "track,split,fold"),
    st.recursive(st.sampled_from(["a", "train", "", None, 1, True, 1e400]), lambda own: st.lists(own, max_size=3)).map(
        lambda content: json.dumps(content).encode()
    ),
    st.lists(st.dictionaries(st.sampled_from(["track", "split", "fold"]), st.sampled_from(["a", "test", 0, -1, None])))
    .map(json.dumps)
    .map(str.encode),
)


@SOME
@given(SPLITS, st.sampled_from(["s.csv", "s.json"]))
@example(b"[" * 100_000, "s.json")
@example(b"track,split\na,train,1,2\n", "s.csv")
def test_splits(tmp_path: Path, data: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(data)
    catalog = Catalog(tmp_path, (Track("a", "test", None, None, None),))
    assert set(coded(lambda: with_splits(catalog, tmp_path / name))) <= {"CAT-SPLITS"}
