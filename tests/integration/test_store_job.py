"""jobs/store.py: what is damaged is named, and only what nothing refers to is removed, and only when asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from affectgrid.data.features.references import unused, write_data_record
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import AudioStream, VisualStream, describe, fingerprint
from affectgrid.data.features.table import FeatureTable
from affectgrid.storage import Storage

STREAMS = {
    "used": VisualStream(crop="frame"),
    "older": VisualStream(crop="detect"),
    "in_study": AudioStream(hop_s=0.4),
    "loose": AudioStream(hop_s=0.8),
}


def put(store: FeatureStore, stream: VisualStream | AudioStream, track: str = "t") -> str:
    name = fingerprint(stream, "weights")
    feature = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float16)
    index = np.arange(1, 201, dtype=np.int32)
    store.write_part(stream.kind, name, track, 0, FeatureTable(index, index / 25, np.ones(200, bool), feature))
    store.finalize(stream.kind, name, track, 1, {"source_sha256": "0"})
    store.write_spec(stream.kind, name, describe(stream, "weights"))
    return name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four fingerprints: a package was trained on one, another's settings are an older package's, a study that was
    killed before its first package knows the third by the hash of its data, and nothing knows the fourth."""
    store = FeatureStore(tmp_path / "features")
    names = {name: put(store, stream) for name, stream in STREAMS.items()}
    package = tmp_path / "runs" / "train" / "model"
    package.mkdir(parents=True)
    encoders = {"visual": "tiny", "visual_stream": STREAMS["used"].model_dump_json()}
    (package / "manifest.json").write_text(json.dumps({"encoders": encoders, "manifest": None}))
    older = STREAMS["older"].model_dump(mode="json")
    del older["margin"]  # as before that setting existed
    package = tmp_path / "studies" / "s" / "best" / "model"
    package.mkdir(parents=True)
    (package / "manifest.json").write_text(json.dumps({"encoders": {"visual_stream": json.dumps(older)}}))
    (tmp_path / "studies" / "s" / "space.json").write_text(json.dumps({"data": "00000000deadbeef"}))
    write_data_record(Storage(tmp_path), "00000000deadbeef", {"audio": names["in_study"]})
    write_data_record(Storage(tmp_path), "11111111deadbeef", {"audio": names["loose"]})
    return tmp_path


def job(*arguments: str) -> tuple[int, str]:
    script = Path(__file__).resolve().parents[2] / "jobs" / "store.py"
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def test_only_what_no_result_refers_to_is_found(root: Path) -> None:
    store = FeatureStore(root / "features")
    (found,) = unused(store, Storage(root))
    assert (found.stream, found.fingerprint) == ("audio", fingerprint(STREAMS["loose"], "weights"))
    assert (found.model, found.tracks) == ("tiny", 1)
    folder = Path(store.folder("audio", found.fingerprint))
    assert found.size_bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_garbage_is_listed_and_removed_only_when_asked(root: Path) -> None:
    before = {path for path in root.rglob("*") if path.is_file()}
    loose = fingerprint(STREAMS["loose"], "weights")
    status, told = job("gc", "--out", str(root))
    assert status == 0
    assert loose in told
    assert "nothing was removed" in told
    assert {path for path in root.rglob("*") if path.is_file()} == before
    status, told = job("gc", "--delete", "--out", str(root))
    assert status == 0
    assert "removed" in told
    left = {path for path in root.rglob("*") if path.is_file()}
    assert {path.relative_to(root / "features" / "audio" / loose) for path in before - left} == {
        Path("t.parquet"),
        Path("fingerprint.json"),
    }
    assert "every fingerprint is referred to" in job("gc", "--out", str(root))[1]


def test_verify_names_what_is_damaged_and_removes_only_that(root: Path) -> None:
    store = FeatureStore(root / "features")
    assert "all whole" in job("verify", "--out", str(root))[1]
    path = Path(store.track_path("visual", fingerprint(STREAMS["used"], "weights"), "t"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    status, told = job("verify", "--out", str(root))
    assert status == 2
    assert f"STO-DAMAGED {path}" in told
    assert path.exists()
    assert job("verify", "--delete", "--out", str(root))[0] == 2
    assert not path.exists()
    status, told = job("verify", "--store", str(root / "features"), "--out", str(root))
    assert status == 0
    assert "3 tracks" in told


def test_a_record_that_says_the_same_is_left_alone(root: Path) -> None:
    path = root / "data" / "00000000deadbeef.json"
    before = path.stat().st_mtime_ns
    write_data_record(Storage(root), path.stem, json.loads(path.read_text()))
    assert path.stat().st_mtime_ns == before
    write_data_record(Storage(root), path.stem, {})
    assert json.loads(path.read_text()) == {}
