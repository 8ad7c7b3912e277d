"""Whatever a file holds and however it is called, only coded errors leave the readers of data.

A few hundred examples a reader on every push, the same each time; the long suite has libFuzzer look for more
(`tests/data/test_fuzzed_long.py`).
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from affectgrid.data.annotations import LabelFile, read_annotation
from affectgrid.data.catalog import Catalog, Track, read_aff_wild2, read_folder
from affectgrid.data.export import write_submission
from affectgrid.data.features.quarantine import Quarantine
from affectgrid.data.features.sources import load_sources
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.table import FeatureTable, to_bytes
from affectgrid.data.imports.files import ImportFormat, read_feature_file
from affectgrid.data.imports.stream import find_files, import_stream
from affectgrid.data.prompts import load_prompt_set
from affectgrid.data.validation import validate
from affectgrid.media.faces.crops import list_crops, read_crop
from affectgrid.search.space.reading import load_space
from support.fuzzing import coded, damaged, file_names, folder_names, make_tree, npy, npz, parquet
from support.processes import REPOSITORY

PLENTY = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
FEWER = settings(PLENTY, max_examples=60)
VA = st.sampled_from(
    ["0.5", "-5", "-5.0", "1", "-1.", ".5", "1e-3", "1e999", "nan", "inf", "٠", "1_0", "", " ", "0x1", "-0", '"0"']
)
ROWS = st.lists(st.lists(VA, min_size=1, max_size=3).map(",".join), max_size=6)
HEADERS = st.sampled_from(["valence,arousal", "Valence, Arousal", "arousal,valence", '"valence","arousal"', "AU1", ""])
LABELS = st.tuples(HEADERS, ROWS, st.sampled_from(["\n", "\r\n", "\r"])).map(lambda t: t[2].join([t[0], *t[1]]))
STARTS = (b"\xef\xbb\xbf", b"PK\x03\x04", b"<", b"\xff\xfe", b"valence,arousal\n")
BYTES = st.tuples(st.sampled_from((b"", *STARTS)), st.binary(max_size=40)).map(b"".join)


@PLENTY
@given(st.one_of(BYTES, LABELS.map(str.encode), damaged(LABELS.map(str.encode))), st.sampled_from(["refuse", "mask"]))
def test_labels(tmp_path: Path, data: bytes, on_bad: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    assert all(code.startswith("ANN-") for code in coded(lambda: read_annotation(LabelFile(path, on_bad))))  # type: ignore[arg-type]


@PLENTY
@given(st.one_of(BYTES, st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass"))))
@example(b"a\x85b")
def test_lists_of_tracks(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "tracks.txt"
    path.write_bytes(data)
    catalog = Catalog(tmp_path, (Track("a", "test", None, None, None),))
    assert set(coded(lambda: catalog.only([path]))) <= {"CAT-TRACKS"}


TEMPLATE = st.lists(
    st.sampled_from(
        ["image_location,valence,arousal", "a/00001.jpg,,", "a/1.jpg", "b/2.jpg", "a/x.jpg", "/1.jpg", ","]
    ),
    max_size=5,
).map("\n".join)


@PLENTY
@given(st.one_of(BYTES, TEMPLATE.map(str.encode), damaged(TEMPLATE.map(str.encode))), st.sampled_from([None, "hold"]))
@example(b"a/" + b"9" * 5000 + b".jpg", None)
@example(b"a/999999999999.jpg", "hold")
def test_templates(tmp_path: Path, data: bytes, fill: str | None) -> None:
    path = tmp_path / "template.txt"
    path.write_bytes(data)
    va = {"a": np.zeros((3, 2), np.float32)}
    assert all(c.startswith("EXP-") for c in coded(lambda: write_submission(tmp_path / "o.txt", path, va, fill=fill)))  # type: ignore[arg-type]


TAGS = st.sampled_from(
    ["!!timestamp x", "!!int ''", "!!bool no_such", "!!float ''", "!!binary x", "!!set [a]", "!!omap a"]
)
SCALARS = st.one_of(
    TAGS,
    st.sampled_from(["3", "square", ".nan", "~", "[a, b]", "{a: 1}", "*x", "&x [*x]", "0001-01-01 00:00:00 +23:59"]),
)
PROMPTS = st.dictionaries(
    st.sampled_from(["name", "grid", "kind", "n", "regions", "texts", "centre", "extent", "? [a]", "<<"]),
    SCALARS,
    max_size=5,
).map(lambda content: "\n".join(f"{key}: {value}" for key, value in content.items()))
WHOLE_PROMPTS = st.sampled_from([path.read_bytes() for path in (REPOSITORY / "search_spaces/prompts").glob("*.yaml")])
BOMB = "\n".join(
    ["x: &a0 [0]", *(f"y{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)), "name: *a11"]
)


@PLENTY
@given(st.one_of(BYTES, PROMPTS.map(str.encode), damaged(WHOLE_PROMPTS)))
@example(BOMB.encode())
@example(b"[" * 600)
def test_prompt_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_bytes(data)
    assert all(code.startswith("CFG-") for code in coded(lambda: load_prompt_set(path)))


WHOLE_SPACES = st.sampled_from([path.read_bytes() for path in (REPOSITORY / "search_spaces").glob("*.yaml")])


@FEWER
@given(st.one_of(BYTES, PROMPTS.map(str.encode), damaged(WHOLE_SPACES)))
@example(BOMB.encode())
@example(b"[" * 600)
def test_search_spaces(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "space.yaml"
    path.write_bytes(data)
    assert all(code.startswith(("SPACE-", "CFG-")) for code in coded(lambda: load_space(path)))


ARRAYS = st.sampled_from(
    [
        np.zeros((3, 2)),
        np.zeros((0, 2)),
        np.zeros((2, 0)),
        np.zeros(()),
        np.zeros((2, 2, 2)),
        np.array([[1e30, np.nan], [np.inf, 0]]),
        np.array(["a", "b"]),
        np.zeros(2, complex),
        np.zeros(3, "M8[s]"),
        np.array([1, 2, 3], np.uint64) + 2**63,
        np.array([1.0, 2.5, 3.0]),
        np.array([0, 3, 2**40]),
        np.array([-1.0, 1e308, np.inf]),
        np.zeros(2, [("x", "f4")]),
        np.array([True, False, True]),
    ]
)
NAMES = st.sampled_from(["feature", "frame", "time_s", "present", "face_id", "x", " x", "*"])
NPZ = st.dictionaries(NAMES, ARRAYS, max_size=4).map(lambda arrays: npz(**arrays))
CELLS = st.sampled_from(
    ["0", "1", "2", "1.5", "1e300", "nan", "", "x", "true", "99999999999", "-1", "18446744073709551615"]
)
CSV = st.tuples(
    st.lists(NAMES, min_size=1, max_size=4).map(",".join),
    st.lists(st.lists(CELLS, min_size=1, max_size=4).map(",".join), max_size=4),
).map(lambda t: "\n".join([t[0], *t[1]]).encode())
PARQUET = st.dictionaries(
    NAMES,
    st.sampled_from([[1, 2, 3], [1.5, None, 2.0], [True, None, False], ["a", "b", "c"], [None] * 3, [[1], [2], []]]),
).map(parquet)
WHOLE = {
    ".npy": st.one_of(ARRAYS.map(npy), st.just(npy(np.array([{}], object), pickles=True)), NPZ),
    ".npz": st.one_of(NPZ, ARRAYS.map(npy)),
    ".csv": CSV,
    ".parquet": PARQUET,
}
FORMATS = st.builds(
    ImportFormat,
    columns=st.sampled_from([(), ("x",), ("[", "*")]),
    rate_hz=st.sampled_from([None, 25.0, 1e-300]),
    first_frame=st.integers(0, 1),
)


@pytest.mark.parametrize("suffix", WHOLE)
@PLENTY
@given(st.data(), FORMATS)
def test_features_of_others(tmp_path: Path, suffix: str, data: st.DataObject, wanted: ImportFormat) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data.draw(st.one_of(WHOLE[suffix], damaged(WHOLE[suffix]), BYTES)))
    assert all(code.startswith("IMP-") for code in coded(lambda: read_feature_file(path, wanted)))


@FEWER
@given(st.lists(file_names(), max_size=3))
@example([b"\xff.npy"])
@example([b"a.npy", b"a.csv"])
def test_names_of_features_of_others(names: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as root:
        store = FeatureStore(Path(root) / "store")
        files = Path(root) / "files"
        make_tree(os.fsencode(files), [([], b".", "folder"), *(([], name, "array") for name in names)])
        found = coded(lambda: import_stream(store, "marks", find_files(str(files)), "a test", ImportFormat()))
        assert all(code.startswith(("IMP-", "STO-NAME")) for code in found)


def stored(rows: int) -> bytes:
    """A feature file as the store writes it."""
    feature = np.arange(rows * 3).reshape(rows, 3).astype(np.float16)
    table = FeatureTable(np.arange(1, rows + 1, dtype=np.int32), np.arange(rows) / 25, np.ones(rows, bool), feature)
    return to_bytes(table, {"track": "a"})


STORED = st.sampled_from([stored(0), stored(5), parquet({"frame_index": [1]})])


@PLENTY
@given(st.one_of(BYTES, damaged(STORED)))
def test_feature_files(tmp_path: Path, data: bytes) -> None:
    folder = tmp_path / "visual" / "0123"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.parquet").write_bytes(data)
    store = FeatureStore(tmp_path)
    for read in (store.read, store.extent, store.read_metadata):
        assert set(coded(lambda read=read: read("visual", "0123", "a"))) <= {"STO-DAMAGED"}  # type: ignore[misc]


RECORD = '{"track": "a", "stream": "visual", "fingerprint": "", "signature": "s", "source": {"num_frames": 1}}'
RECORDS = st.lists(
    st.sampled_from([RECORD, "{}", "[]", "1", "NaN", "", '{"track": null}', "[" * 3000]), max_size=4
).map("\n".join)


@PLENTY
@given(st.one_of(BYTES, RECORDS.map(str.encode), damaged(RECORDS.map(str.encode))))
def test_records_of_a_store(tmp_path: Path, data: bytes) -> None:
    folder = tmp_path / "visual" / "0123"
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / "sources.jsonl", folder / "fingerprint.json", tmp_path / "quarantine.jsonl"):
        path.write_bytes(data)
    store = FeatureStore(tmp_path)
    assert store.read_spec("visual", "0123") is not None
    readers: list[Callable[[], object]] = [lambda: load_sources(store, "visual", "0123"), lambda: Quarantine(store)]
    for read in readers:
        assert set(coded(read)) <= {"STO-DAMAGED"}


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, kind)
    return file.getvalue()


CROPS = st.sampled_from([encoded("JPEG"), encoded("PNG"), encoded("GIF")])


@PLENTY
@given(st.one_of(BYTES, damaged(CROPS)), file_names())
def test_crops(data: bytes, name: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), name)))  # noqa: PTH118 - names are bytes
        path.write_bytes(data)
        assert set(coded(lambda: list_crops(Path(folder)))) <= {"MED-CROP-INDEX"}
        assert set(coded(lambda: read_crop(path))) <= {"MED-CROP"}


ENTRIES = st.lists(
    st.tuples(
        st.lists(folder_names(), max_size=3),
        file_names(),
        st.sampled_from(["file", "labels", "folder", "dangling link", "link to itself", "link out"]),
    ),
    max_size=6,
)


@PLENTY
@given(ENTRIES, st.sampled_from(["required", "expected", "optional"]))
@example([([b"Train_Set"], b"a.txt", "link to itself"), ([b"videos"], b"a.mp4", "link to itself")], "expected")
@example([([b"VA", b"Train_Set"], b"a.txt", "dangling link"), ([b"b", b"Train_Set"], b"a.txt", "file")], "expected")
@example([([b"b", b"Train_Set"], b"a.txt", "dangling link"), ([b"a", b"Train_Set"], b"a.txt", "file")], "expected")
@example([([b"cropped_aligned"], b"a.tar", "dangling link"), ([b"videos"], b"a.mp4", "dangling link")], "expected")
def test_catalogs(entries: list[tuple[list[bytes], bytes, str]], labels: str) -> None:
    """Reading a tree, and checking what was read; also as a folder of videos."""

    def check() -> None:
        catalog = read_aff_wild2(Path(root), labels=labels)  # type: ignore[arg-type]
        for problem in validate(catalog, probe=probe):
            assert problem.code
        catalog.digest()

    with tempfile.TemporaryDirectory() as root:
        make_tree(os.fsencode(root), entries)
        coded(check)
        coded(lambda: read_folder(Path(root)))


def probe(path: Path) -> object:
    """No video of these trees is one."""
    from affectgrid.media.video import probe_video

    return probe_video(path)
