"""Kills, full disks and flipped bytes, caused for real: a store shows whole files or none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.table import FeatureTable
from affectgrid.errors import StoreError

ROWS = """
import os, signal, sys
from pathlib import Path
import numpy as np
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.table import FeatureTable
from affectgrid.errors import StoreError

def table(first=1, rows=400, dim=64, seed=0):
    feature = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float16)
    index = np.arange(first, first + rows, dtype=np.int32)
    return FeatureTable(index, (index - 1) / 25, np.ones(rows, bool), feature)

store = FeatureStore(Path(sys.argv[1]))
"""


def python(script, *args, prefix=(), **options):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [*prefix, sys.executable, "-c", ROWS + script, *map(str, args)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def table(rows=40, seed=0):
    feature = np.random.default_rng(seed).standard_normal((rows, 8)).astype(np.float16)
    index = np.arange(1, rows + 1, dtype=np.int32)
    return FeatureTable(index, (index - 1) / 25, np.ones(rows, bool), feature)


def put(store, track="t", seed=0):
    store.write_part("visual", "f0", track, 0, table(seed=seed))
    store.finalize("visual", "f0", track, 1, {"encoder": "tiny"})
    return Path(store.track_path("visual", "f0", track))


@pytest.mark.parametrize("moment", ["part", "track"])
def test_a_kill_between_temporary_file_and_rename_leaves_nothing_visible(tmp_path, moment):
    script = """
real = Path.replace
def replace(self, target):
    if ("_parts" in str(target)) == (sys.argv[2] == "part"):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, target)
Path.replace = replace
store.write_part("visual", "f0", "t", 0, table())
store.finalize("visual", "f0", "t", 1)
"""
    assert python(script, tmp_path, moment).wait(60) == -signal.SIGKILL
    store = FeatureStore(tmp_path)
    assert list(tmp_path.rglob("*.tmp"))  # the kill did fall where it should
    assert not store.has("visual", "f0", "t")
    assert store.tracks("visual", "f0") == ()
    assert store.verify() == []
    assert store.parts("visual", "f0", "t") == ({} if moment == "part" else {0: (0, 400)})
    put(store)
    assert store.tracks("visual", "f0") == ("t",)


def test_a_kill_at_any_time_leaves_only_whole_files(tmp_path):
    script = """
for number in range(10**6):
    store.write_part("visual", "f0", f"t{number}", 0, table(seed=number))
    store.finalize("visual", "f0", f"t{number}", 1)
    print(number, flush=True)
"""
    for attempt in range(3):
        root = tmp_path / str(attempt)
        process = python(script, root)
        for _ in range(2 + attempt):
            process.stdout.readline()
        time.sleep(0.003 * attempt)  # spreads the kills over the steps of one write; nothing waits for it
        process.kill()
        process.wait()
        store = FeatureStore(root)
        assert store.verify() == []
        finished = store.tracks("visual", "f0")
        assert len(finished) >= 2 + attempt
        assert all(len(store.read("visual", "f0", track).frame_index) == 400 for track in finished)


def test_no_flipped_byte_passes_for_data(tmp_path):
    store = FeatureStore(tmp_path)
    path = put(store)
    good = path.read_bytes()
    before = store.read("visual", "f0", "t")
    told = []
    offsets = np.random.default_rng(0).permutation(len(good))[:400]
    for offset in offsets:
        path.write_bytes(good[:offset] + bytes([good[offset] ^ (1 << offset % 8)]) + good[offset + 1 :])
        try:
            after = store.read("visual", "f0", "t")
        except StoreError as error:
            told.append((error.problems[0].code, error.problems[0].where))
        else:  # a byte that says nothing, such as the name of the writing library
            np.testing.assert_array_equal(after.feature, before.feature)
            np.testing.assert_array_equal(after.frame_index, before.frame_index)
            np.testing.assert_array_equal(after.present, before.present)
            np.testing.assert_array_equal(after.time_s, before.time_s)
    assert set(told) == {("STO-DAMAGED", str(path))}
    assert len(told) > 0.6 * len(offsets)


def test_a_byte_flipped_among_the_features_is_named_and_mended_by_encoding_again(tmp_path):
    store = FeatureStore(tmp_path)
    path = put(store)
    put(store, "other")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # incompressible features fill the middle
    path.write_bytes(data)
    with pytest.raises(StoreError, match="encode this track again"):
        store.read("visual", "f0", "t")
    (problem,) = store.verify()
    assert (problem.code, problem.where) == ("STO-DAMAGED", str(path))
    store.remove("visual", "f0", "t")
    assert not store.has("visual", "f0", "t")
    put(store)
    assert store.verify() == []


@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.99])
def test_a_torn_file_is_named(tmp_path, keep):
    store = FeatureStore(tmp_path)
    path = put(store)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(StoreError, match="STO-DAMAGED"):
        store.read("visual", "f0", "t")


def test_other_parquet_files_are_not_taken_for_features(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    store = FeatureStore(tmp_path)
    path = put(store)
    for content in (pa.table({"a": [1]}), pa.table({"a": [1]}).replace_schema_metadata({"affectgrid": '{"dim": 1}'})):
        pq.write_table(content, path)
        with pytest.raises(StoreError, match="STO-DAMAGED"):
            store.read("visual", "f0", "t")


def test_a_torn_part_does_not_join(tmp_path):
    store = FeatureStore(tmp_path)
    store.write_part("visual", "f0", "t", 0, table())
    (part,) = tmp_path.rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(StoreError, match="STO-DAMAGED"):
        store.finalize("visual", "f0", "t", 1)
    assert not store.has("visual", "f0", "t")


def test_a_full_disk_is_told_and_what_was_stored_stays(tmp_path):
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)]
    if subprocess.run([*namespace, *mount], capture_output=True).returncode:
        pytest.skip("needs a mount namespace of its own: unshare --user --mount")
    script = """
import subprocess
subprocess.run(sys.argv[2:], check=True)
try:
    for number in range(10**6):
        store.write_part("visual", "f0", f"t{number}", 0, table(seed=number))
        store.finalize("visual", "f0", f"t{number}", 1)
except StoreError as error:
    print(error.problems[0].code)
print(number, len(store.tracks("visual", "f0")), len(store.verify()), len(list(Path(sys.argv[1]).rglob("*.tmp"))))
"""
    process = python(script, tmp_path, *mount, prefix=namespace)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    code, counts = out.decode().splitlines()
    attempted, stored, damaged, leftovers = map(int, counts.split())
    assert code == "STO-FULL"
    assert attempted >= 10
    assert stored == attempted
    assert damaged == leftovers == 0


def test_a_store_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="STO-WRITE"):
        put(FeatureStore(tmp_path / "file" / "store"))
