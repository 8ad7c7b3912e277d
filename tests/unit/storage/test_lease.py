"""One owner at a time: in a folder by the kernel's lock, in a bucket by a lease that a dead owner cannot keep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from affectgrid.storage import Storage
from affectgrid.storage import lease as module
from affectgrid.storage.lease import LeaseTakenError, exclusive
from support.bucket import Bucket, s3_server

TTL_S = 4.0
HOLDER = """
import sys, time
from affectgrid.storage import Storage
from affectgrid.storage.lease import exclusive
with exclusive(Storage(sys.argv[1]), "lease.json", ttl_s=float(sys.argv[2])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["folder", "s3", "unconditional"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    if request.param == "folder":
        return Storage(tmp_path)
    if request.param == "unconditional":
        monkeypatch.setattr(module, "_S3Objects", module._PlainObjects)
    return Storage(request.getfixturevalue("bucket").uri(tmp_path.name))


def test_a_second_owner_is_refused_until_the_first_lets_go(storage: Storage) -> None:
    with exclusive(storage, "lease.json", ttl_s=TTL_S):
        began = time.monotonic()
        with pytest.raises(LeaseTakenError), exclusive(storage, "lease.json", ttl_s=TTL_S):
            pass
        assert time.monotonic() - began < TTL_S
    with exclusive(storage, "lease.json", ttl_s=TTL_S):
        pass


@pytest.fixture
def killed(storage: Storage) -> Storage:
    """A storage whose owner has just been killed."""
    environment = os.environ | {"PYTHONPATH": str(Path(module.__file__).parents[2])}
    command = [sys.executable, "-c", HOLDER, storage.uri, str(TTL_S)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGKILL)
    return storage


def test_a_dead_owners_lease_runs_out(killed: Storage) -> None:
    with exclusive(killed, "lease.json", ttl_s=TTL_S):
        pass


def test_of_several_that_wait_for_a_dead_owner_one_wins(killed: Storage) -> None:
    if killed.is_local:
        pytest.skip("threads of one process share a lock of the kernel only by accident")
    won, refused, everyone = [], [], threading.Barrier(4)

    def compete(number: int) -> None:
        everyone.wait()
        try:
            with exclusive(killed, "lease.json", ttl_s=TTL_S):
                won.append(number)
                time.sleep(1.5 * TTL_S)
        except LeaseTakenError:
            refused.append(number)

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 3)


def test_an_owner_hears_that_its_lease_was_taken(bucket: Bucket, tmp_path: Path) -> None:
    storage, lost = Storage(bucket.uri(tmp_path.name)), threading.Event()
    with exclusive(storage, "lease.json", ttl_s=1.0, on_lost=lost.set):
        storage.write_json(
            "lease.json", {"token": "other", "host": "h", "pid": 1, "began": 0, "expires": time.time() + 60}
        )
        assert lost.wait(10)
    assert storage.read_json("lease.json")["token"] == "other"


def test_a_lease_that_is_put_while_it_is_read_is_read_again(bucket: Bucket, tmp_path: Path, monkeypatch) -> None:
    """pyarrow asks for the size, and then for so many bytes: of a longer object it gets the beginning."""
    storage = Storage(bucket.uri(tmp_path.name))
    storage.write_json("lease.json", {"token": "a", "expires": 1.0})
    whole, cut = storage.read("lease.json"), iter([1, 2, 3])
    monkeypatch.setattr(Storage, "read", lambda self, name: whole[:-1] if next(cut, None) else whole)
    found = module._PlainObjects(storage, "lease.json").read()
    assert found is not None
    assert found.content["token"] == "a"
