"""Files of a place on this node: copied once, evicted by age, never while they are read, and never another version."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from affectgrid.errors import ConfigError, MediaError, StoreError
from affectgrid.storage import Staged, Storage, show_places, staged
from affectgrid.storage.staging import Kind
from support.bucket import Bucket, s3_server

KIB = 2**-20  # of a GiB, the limit's unit


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_server() as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AFFECTGRID_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def place(bucket: Bucket, tmp_path: Path) -> Storage:
    return Storage(bucket.uri(f"{tmp_path.name}/corpus"))


def put(place: Storage, name: str, data: bytes = b"x" * 1024) -> Path:
    place.write(name, data)
    return Staged.of(place, name, "file", [place.stat(name)]).path


def here(paths: list[Path]) -> list[str]:
    return [path.name for path in paths if path.exists()]


def test_a_path_says_everything_and_other_paths_are_as_they_are(place: Storage, tmp_path: Path) -> None:
    path = put(place, "batch1/a film.mp4", b"12345")
    found = Staged.parse(path)
    assert found is not None
    assert (found.place, found.name, found.kind, found.size) == (place.uri, "batch1/a film.mp4", "file", 5)
    assert found.path == path
    assert show_places(str(path)) == place.show("batch1/a film.mp4")
    assert not path.exists()
    with staged(path) as local:
        assert local.read_bytes() == b"12345"
    assert Staged.parse(tmp_path / "x.mp4") is None
    with staged(tmp_path / "x.mp4") as local:
        assert local == tmp_path / "x.mp4"


def test_a_path_of_another_node_is_found_in_this_ones_cache(
    place: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(place, "a.mp4")
    monkeypatch.setenv("AFFECTGRID_CACHE", str(tmp_path / "elsewhere"))
    with staged(path) as local:
        assert local.is_relative_to(tmp_path / "elsewhere")


def test_a_copy_is_made_once_and_again_after_the_cache_was_deleted(place: Storage, cache: Path) -> None:
    path = put(place, "a.mp4")
    with staged(path):
        first = path.stat().st_ino
    with staged(path):
        assert path.stat().st_ino == first
    path.write_bytes(b"torn")  # as a machine that went down may leave it
    with staged(path) as local:
        assert local.read_bytes() == b"x" * 1024
    shutil.rmtree(cache)
    with staged(path) as local:
        assert local.read_bytes() == b"x" * 1024


@pytest.mark.parametrize("change", ["another size", "another date", "gone"])
def test_a_file_that_changed_since_it_was_listed_is_refused(place: Storage, change: str) -> None:
    path = put(place, "a.mp4")
    time.sleep(1.1 if change == "another date" else 0)  # S3 tells whole seconds
    if change == "gone":
        place.delete("a.mp4")
    else:
        place.write("a.mp4", b"y" * (1024 if change == "another date" else 7))
    with pytest.raises(StoreError, match=r"STO-CHANGED s3://bucket/.*/corpus/a\.mp4"), staged(path):
        pass
    assert not path.exists()


@pytest.mark.parametrize("kind", ["tar", "zip", "tar of the folder", "folder"])
def test_crops_are_a_folder_however_they_are_kept(place: Storage, kind: str, tmp_path: Path) -> None:
    crops = {f"{number:05d}.jpg": bytes([number]) * number for number in range(1, 40)}
    inner = "t/" if kind == "tar of the folder" else ""
    data = io.BytesIO()
    if kind == "folder":
        for name, content in crops.items():
            place.write(f"crops/t/{name}", content)
        path = Staged.of(place, "crops/t", "folder", place.list_files("crops/t")).path
    elif kind == "zip":
        with zipfile.ZipFile(data, "w") as archive:
            for name, content in crops.items():
                archive.writestr(name, content)
        place.write("crops/t.zip", data.getvalue())
        path = Staged.of(place, "crops/t", "zip", [place.stat("crops/t.zip")]).path
    else:
        with tarfile.open(fileobj=data, mode="w") as tar:
            for name, content in crops.items():
                member = tarfile.TarInfo(inner + name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        place.write("crops/t.tar", data.getvalue())
        path = Staged.of(place, "crops/t", "tar", [place.stat("crops/t.tar")]).path
    with staged(path) as local:
        assert {item.name: item.read_bytes() for item in local.iterdir() if item.is_file()} == crops


def test_an_archive_cannot_write_beside_its_folder(place: Storage, cache: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("../../../../escaped.txt")
        tar.addfile(member, io.BytesIO(b""))
    place.write("t.tar", data.getvalue())
    path = Staged.of(place, "t", "tar", [place.stat("t.tar")]).path
    with pytest.raises(MediaError, match=r"MED-ARCHIVE s3://bucket/.*/t\.tar"), staged(path):
        pass
    assert not list(cache.parent.rglob("escaped.txt"))


def test_what_was_used_longest_ago_goes_first(place: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTGRID_STAGED_GB", str(2.5 * KIB))
    paths = [put(place, f"{name}.mp4") for name in "abc"]
    for path in (paths[0], paths[1], paths[0], paths[2]):
        with staged(path):
            pass
        time.sleep(0.02)
    assert here(paths) == ["a.mp4", "c.mp4"]


def test_what_is_read_stays_and_the_limit_gives_way(place: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTGRID_STAGED_GB", str(1.5 * KIB))
    paths = [put(place, f"{name}.mp4") for name in "abc"]
    with staged(paths[0]) as first:
        with staged(paths[1]) as second:
            assert first.read_bytes() == second.read_bytes()
        with staged(paths[2]):
            assert here(paths) == ["a.mp4", "c.mp4"]
    with staged(paths[1]):
        assert here(paths) == ["b.mp4"]


def test_a_limit_that_is_not_a_number_is_refused(place: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTGRID_STAGED_GB", "plenty")
    with pytest.raises(ConfigError, match="CFG-VALUE AFFECTGRID_STAGED_GB"), staged(put(place, "a.mp4")):
        pass


def test_many_readers_with_little_room_always_find_their_file(
    place: Storage, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTGRID_STAGED_GB", str(2.5 * KIB))
    paths = [put(place, f"{number}.mp4", bytes([number]) * 1024) for number in range(5)]
    failures: list[str] = []

    def read(start: int) -> None:
        for step in range(12):
            number = (start + step * 2) % 5
            with staged(paths[number]) as local:
                time.sleep(0.002)
                if local.read_bytes() != bytes([number]) * 1024:
                    failures.append(local.name)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(list((cache / "staged" / ".records").iterdir())) == len(here(paths))
    paths.append(put(place, "5.mp4"))
    with staged(paths[-1]):
        assert here(paths)[-1] == "5.mp4"
        assert len(here(paths)) == 2


def test_a_reader_that_waited_for_an_eviction_takes_the_new_record(place: Storage, cache: Path) -> None:
    path = put(place, "a.mp4")
    with staged(path):
        pass
    (record,) = (cache / "staged" / ".records").iterdir()
    read: list[bytes] = []

    def reader() -> None:
        with staged(path) as local:
            read.append(local.read_bytes())

    with record.open() as evicting:
        fcntl.flock(evicting, fcntl.LOCK_EX)
        thread = threading.Thread(target=reader)
        thread.start()
        time.sleep(0.2)
        assert not read
        record.unlink()  # from now on a lock on it keeps nobody out
    thread.join()
    assert read == [b"x" * 1024]
    assert record.exists()


@pytest.mark.parametrize("kind", ["file", "tar"])
def test_a_process_that_is_killed_in_a_copy_leaves_no_part_and_no_lock(
    place: Storage, tmp_path: Path, kind: Kind
) -> None:
    path = put(place, "a.mp4")
    if kind == "tar":
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("00001.jpg"), io.BytesIO())
        put(place, "a.tar", data.getvalue())
        path = Staged.of(place, "a", "tar", [place.stat("a.tar")]).path
    script = (
        "import os, sys, signal; from pathlib import Path; from affectgrid.storage import Storage, staged\n"
        "def torn(self, name, target): target.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "Storage.download = torn\n"
        "with staged(Path(sys.argv[1])): pass"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3] / "platform")}
    assert subprocess.run([sys.executable, "-c", script, path], env=environment, timeout=60).returncode == -9
    assert not path.exists()
    with staged(path) as local:
        assert [item.name for item in local.iterdir()] == ["00001.jpg"] if kind == "tar" else local.stat().st_size
    assert not list((tmp_path / "cache").rglob("*.draft"))


def test_an_address_with_credentials_is_refused_before_it_becomes_a_path() -> None:
    with pytest.raises(ConfigError, match="CFG-SECRET s3://bucket/x") as caught:
        Staged.of(Storage("s3://key:swordfish@bucket/x?region=us-east-1"), "a.mp4", "file", [])
    assert "swordfish" not in str(caught.value)
