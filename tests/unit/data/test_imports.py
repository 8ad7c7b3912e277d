"""Features that other programs made: read, refused with the reason, and joined to the frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from affectgrid.data.annotations import Annotation, write_annotation
from affectgrid.data.catalog import Track
from affectgrid.data.features.imported import find_imported, imported_by
from affectgrid.data.features.references import unused
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.table import FeatureTable
from affectgrid.data.imports.files import ImportFormat, read_feature_file
from affectgrid.data.imports.stream import find_files, import_stream
from affectgrid.data.splits.mapped import map_split
from affectgrid.data.splits.resident import load_split, plan_split
from affectgrid.errors import CatalogError, ConfigError
from affectgrid.storage import Storage

OPENFACE = """frame, face_id, timestamp, confidence, success, AU01_r, AU12_r
1, 0, 0.0, 0.98, 1, 0.5, 1.0
2, 0, 0.2, 0.20, 0, 9.0, 9.0
4, 0, 0.6, 0.97, 1, nan, 2.0
5, 0, 0.8, 0.99, 1, 1.5, 3.0
"""


def read(path: Path, content: str | None = None, **wanted):
    if content is not None:
        path.write_text(content)
    return read_feature_file(path, ImportFormat(**wanted))


def test_a_table_of_frames_as_openface_writes_it(tmp_path: Path) -> None:
    file = read(tmp_path / "a.csv", OPENFACE)
    assert (file.columns, file.by_time, file.num_absent) == (("AU01_r", "AU12_r"), False, 2)
    assert file.table.frame_index.tolist() == [1, 2, 4, 5]
    assert file.table.present.tolist() == [True, False, False, True]
    assert file.table.feature.tolist() == [[0.5, 1], [0, 0], [0, 0], [1.5, 3]]
    assert read(tmp_path / "a.csv", columns=("*12*",)).columns == ("AU12_r",)
    from_zero = read(tmp_path / "b.csv", OPENFACE.replace("\n1, 0", "\n0, 0"), first_frame=0)
    assert from_zero.table.frame_index.tolist() == [1, 3, 5, 6]


def test_rows_by_time_leave_a_gap_where_rows_are_missing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"time_s": [0.0, 0.1, 0.2, 1.0, 1.1], "x": [1, 2, 3, 4, 5]}), tmp_path / "a.parquet")
    file = read(tmp_path / "a.parquet")
    assert file.by_time
    assert file.table.time_s.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 1.0, 1.1])
    assert file.table.present.tolist() == [True, True, True, False, True, True]


def test_arrays_are_frames_or_have_a_rate_or_bring_their_times(tmp_path: Path) -> None:
    wide = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "a.npy", wide)
    assert read(tmp_path / "a.npy").table.frame_index.tolist() == [1, 2, 3]
    assert read(tmp_path / "a.npy", rate_hz=4.0).table.time_s.tolist() == [0, 0.25, 0.5]
    np.savez(tmp_path / "b.npz", features=wide, timestamp=np.array([0.0, 1.0, 2.0]), success=np.array([1, 0, 1]))
    file = read(tmp_path / "b.npz")
    assert (file.by_time, file.table.present.tolist()) == (True, [True, False, True])
    np.save(tmp_path / "one.npy", wide[:, 0])
    assert read(tmp_path / "one.npy").table.dim == 1


@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        ("a.csv", "frame,x\n1,2\n1,3\n", "IMP-CLOCK", "row 2 has 1 after 1"),
        ("a.csv", "time_s,x\n1,2\n0.5,3\n", "IMP-CLOCK", "row 2 has 0.5 after 1"),
        ("a.csv", "frame,x\n0,2\n1,3\n", "IMP-CLOCK", "--first-frame 0"),
        ("a.csv", "frame,x\n1,2\n,3\n", "IMP-CLOCK", "a row without one of its frames"),
        ("a.csv", "frame,x\n1,2\n2,70000\n", "IMP-RANGE", "70000 in row 2 of x"),
        ("a.csv", "frame,word\n1,happy\n", "IMP-COLUMNS", "name them with --columns"),
        ("a.csv", "", "IMP-READ", "a .csv file of numbers"),
        ("a.npy", "no array", "IMP-READ", "a .npy file of numbers"),
        ("a.npz", "no archive", "IMP-READ", "a .npz file of numbers"),
        ("a.parquet", "no table", "IMP-READ", "a .parquet file of numbers"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(tmp_path, name, content, code, said):
    with pytest.raises(CatalogError, match=code) as caught:
        read(tmp_path / name, content)
    assert said in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    np.save(tmp_path / "a.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", features=np.array([[Trap()]], dtype=object))
    for name in ("a.npy", "b.npz"):
        with pytest.raises(CatalogError, match="IMP-READ"):
            read(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "features")


def write_files(folder: Path, **contents: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.csv").write_text(content)
    return folder


def bring(store: FeatureStore, folder: Path, name: str = "au", source: str = "OpenFace 2.2", tracks=None, **wanted):
    return import_stream(store, name, find_files(str(folder)), source, ImportFormat(**wanted), tracks)


def test_a_file_is_imported_once_and_again_when_it_has_changed(store: FeatureStore, tmp_path: Path) -> None:
    folder = write_files(tmp_path / "au", a=OPENFACE, b=OPENFACE, stranger=OPENFACE)
    report = bring(store, folder, tracks={"a", "b", "c"})
    assert (report.added, report.strangers, report.missing) == (("a", "b"), ("stranger.csv",), ("c",))
    assert (report.dim, report.clock, report.rows, report.absent) == (2, "frames", 8, 4)
    assert bring(store, folder, tracks={"a", "b", "c"}).unchanged == ("a", "b")
    (before,) = find_imported(store, ["visual", "au"])
    contents = before.contents(store, ["a", "b"])
    write_files(folder, b=OPENFACE.replace("1.5", "1.25"))
    report = bring(store, folder, tracks={"a", "b", "c"})
    assert (report.replaced, report.unchanged) == (("b",), ("a",))
    (after,) = find_imported(store, ["au"])
    assert after == before
    assert after.contents(store, ["a", "b"]) != contents  # so that results of other features are not taken for these
    assert store.read_metadata("au", after.fingerprint, "a")["file"] == "a.csv"
    assert unused(store, Storage(tmp_path)) == []  # never thrown away as unused


def test_bad_files_are_left_out_and_told_and_the_others_are_kept(store: FeatureStore, tmp_path: Path) -> None:
    folder = write_files(tmp_path / "au", a="nothing", b=OPENFACE, c=OPENFACE.replace("AU12_r", "AU15_r"))
    report = bring(store, folder)
    assert report.added == ("b",)
    assert [problem.code for problem in report.problems] == ["IMP-READ", "IMP-COLUMNS"]
    with pytest.raises(CatalogError, match="IMP-READ"):
        bring(FeatureStore(tmp_path / "other"), write_files(tmp_path / "bad", a="nothing"))


def test_a_name_holds_features_of_one_source(store: FeatureStore, tmp_path: Path) -> None:
    folder = write_files(tmp_path / "au", a=OPENFACE)
    bring(store, folder)
    for change in ({"source": "OpenFace 3"}, {"columns": ("AU12_r",)}, {"rate_hz": 5.0}):
        with pytest.raises(CatalogError, match="IMP-SOURCE au"):
            bring(store, folder, **change)
    for name in ("visual", "AU", "a-b"):
        with pytest.raises(CatalogError, match="IMP-NAME"):
            bring(store, folder, name)
    with pytest.raises(CatalogError, match="IMP-TRACK"):
        bring(store, folder, tracks={"video1"})
    (folder / "a.npy").write_bytes(b"")
    with pytest.raises(CatalogError, match="IMP-TRACK"):
        find_files(str(folder))
    assert [path.name for path in find_files(f"{folder}/*.csv")] == ["a.csv"]
    with pytest.raises(CatalogError, match="IMP-NONE"):
        find_files(f"{folder}/*.parquet")
    with pytest.raises(ConfigError, match="did you mean 'au'"):
        find_imported(store, ["aus"])


def test_imported_streams_are_joined_to_the_frames_and_absent_where_they_lack_them(store, tmp_path: Path) -> None:
    times = np.arange(5) / 5
    for stream in ("visual", "audio"):
        for name in ("a", "b"):
            table = FeatureTable(np.arange(1, 6, dtype=np.int32), times, np.ones(5, bool), np.ones((5, 1), np.float16))
            store.write_track(stream, "f0", name, table, {})
    bring(store, write_files(tmp_path / "au", a=OPENFACE))
    bring(store, write_files(tmp_path / "slow", a="time_s,x\n0,1\n0.4,3\n0.8,5\n"), "slow", "planted")
    streams = find_imported(store, ["slow", "au"])
    labels = tmp_path / "a.txt"
    write_annotation(labels, Annotation(np.zeros((5, 2), np.float32), np.ones(5, bool)))
    tracks = [Track(name, "train", None, None, labels) for name in ("a", "b")]
    prints = {"visual": "f0", "audio": "f0"} | {stream.name: stream.fingerprint for stream in streams}
    split = load_split(store, tracks, fingerprints=prints, name="train")
    assert split.dims == {"visual": 1, "audio": 1, "au": 2, "slow": 1}
    assert split.streams["au"].present.tolist() == [True, False, False, False, True] + [False] * 5
    assert split.streams["au"].feature[4].tolist() == [1.5, 3]
    assert split.streams["slow"].feature[:5, 0].tolist() == [1, 2, 3, 4, 5]
    assert not split.streams["slow"].present[5:].any()
    assert split.encoders["au"] == "OpenFace 2.2"
    assert imported_by(streams[0].as_encoders()) == streams[:1]
    before = plan_split(store, tracks, fingerprints=prints, name="train")
    mapped = map_split(before, tmp_path / "mapped")
    write_files(tmp_path / "au", a=OPENFACE.replace("1.5", "1.25"))
    bring(store, tmp_path / "au")
    after = plan_split(store, tracks, fingerprints=prints, name="train")
    assert map_split(after, tmp_path / "mapped").home != mapped.home  # stale files are not taken for the new features
    assert map_split(after, tmp_path / "mapped").streams["au"].feature[4].tolist() == [1.25, 3]
