"""One contract for a folder and for a bucket, and what only a disk promises: atomic files and folders."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from affectgrid.credentials import without_credentials
from affectgrid.errors import StoreError
from affectgrid.storage import Storage, append, replace_directory, write_atomic, write_json
from support.bucket import Bucket, s3_server


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["folder", "file-uri", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "bucket":
        return Storage(request.getfixturevalue("bucket").uri(f"{tmp_path.name}/place"))
    return Storage(tmp_path / "place" if request.param == "folder" else f"file://{tmp_path}/place")


def test_files_are_written_read_listed_and_deleted(storage: Storage) -> None:
    assert not storage.exists()
    assert storage.list_files() == []
    assert storage.list_folders() == []
    storage.write("a.txt", "ä")
    storage.write("sub/b.bin", b"\0" * 7)
    storage.write_json("sub/deep/c.json", {"x": [1]})
    storage.write("a.txt", "new")
    assert storage.read("a.txt") == b"new"
    assert storage.read_json("sub/deep/c.json") == {"x": [1]}
    with storage.open("sub/b.bin") as file:
        file.seek(5)
        assert file.read() == b"\0\0"
    assert [(entry.name, entry.size) for entry in storage.list_files("sub")] == [("b.bin", 7)]
    assert [entry.name for entry in storage.list_files(recursive=True)] == ["a.txt", "sub/b.bin", "sub/deep/c.json"]
    assert storage.list_folders() == ["sub"]
    assert storage.exists("sub")
    assert storage.exists("sub/b.bin")
    assert not storage.exists("sub/no")
    assert (storage / "sub").read_json("deep/c.json") == {"x": [1]}
    storage.delete("sub")
    storage.delete("no/such/file")
    assert [entry.name for entry in storage.list_files(recursive=True)] == ["a.txt"]
    with pytest.raises(FileNotFoundError):
        storage.read("sub/b.bin")


def test_a_folder_goes_up_and_comes_back_whole(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(20):
        write_atomic(source / f"d{number % 3}" / f"{number}.txt", str(number))
    storage.upload(source, "models/m")
    write_atomic(source / "d0" / "0.txt", "changed here")
    copy = storage.fetch("models/m", tmp_path / "cache")
    assert {path.name for path in copy.rglob("*.txt")} == {f"{number}.txt" for number in range(20)}
    assert (copy / "d0" / "0.txt").read_text() == "0"
    storage.upload(source / "d0" / "0.txt", "one.txt")
    assert storage.fetch("one.txt", tmp_path / "cache").read_text() == "changed here"
    with pytest.raises(FileNotFoundError):
        storage.fetch("models/none", tmp_path / "cache")


def test_it_travels_by_its_address(storage: Storage) -> None:
    storage.write("a.txt", "here")
    again = pickle.loads(pickle.dumps(storage))
    assert again == storage
    assert again.read("a.txt") == b"here"
    storage.require_writable()
    assert [entry.name for entry in storage.list_files()] == ["a.txt"]


def test_an_address_is_shown_without_what_is_secret(bucket: Bucket) -> None:
    storage = Storage("s3://key:sword%2Ffish@bucket/x?scheme=http&endpoint_override=127.0.0.1:1&region=us-east-1")
    assert storage.address == "s3://bucket/x"
    assert storage.show("y") == "s3://bucket/x/y"
    assert "sword" not in repr(storage)
    with pytest.raises(StoreError, match="STO-WRITE s3://bucket/x/y") as caught:
        storage.write("y", b"")
    assert "sword" not in str(caught.value)
    with pytest.raises(StoreError, match="STO-URI") as caught:
        Storage("no-such-scheme://key:swordfish@place/x").exists()
    assert "sword" not in str(caught.value)
    assert without_credentials("in s3://a:b@c/d and gs://e/f") == "in s3://c/d and gs://e/f"


def test_a_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_json(tmp_path / "x.json", {"old": 1})
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"new": 2})
    assert path.read_text() == '{\n  "old": 1\n}\n'
    assert names(tmp_path) == ["x.json"]
    with pytest.raises(StoreError, match="STO-FULL"):
        Storage(tmp_path).write("x.json", "new")


def test_a_directory_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with replace_directory(target) as draft:
        (draft / "a").write_text("1")
    with replace_directory(target) as draft:
        (draft / "b").write_text("2")
        assert names(target) == ["a"]
    assert names(target) == ["b"]
    with pytest.raises(IsADirectoryError), replace_directory(target) as draft:
        draft.write_text("a folder")
    assert names(target) == ["b"]
    assert names(tmp_path) == ["model"]


def test_a_kill_in_the_middle_leaves_the_old_directory_and_its_draft_goes_with_the_next(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with replace_directory(target) as draft:
        (draft / "a").write_text("1")
    script = (
        "import os, signal, sys; from pathlib import Path; from affectgrid.storage import replace_directory\n"
        "with replace_directory(Path(sys.argv[1])) as draft:\n"
        "    (draft / 'a').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3] / "platform")}
    assert subprocess.run([sys.executable, "-c", script, target], env=environment).returncode == -signal.SIGKILL
    assert (target / "a").read_text() == "1"
    assert len(names(tmp_path)) == 2
    with replace_directory(target) as draft:
        (draft / "a").write_text("2")
    assert (target / "a").read_text() == "2"
    assert names(tmp_path) == ["model"]


def test_lines_are_added(tmp_path: Path) -> None:
    append(tmp_path / "new" / "log.jsonl", "1")
    append(tmp_path / "new" / "log.jsonl", "2")
    assert (tmp_path / "new" / "log.jsonl").read_text() == "1\n2\n"
