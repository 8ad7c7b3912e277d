"""One process at a time may write under a storage: a kernel lock in a folder, a lease in a bucket.

A lease is an object that only one process can put: S3 accepts a put on the condition that the object is absent, or
still the one that was read. Its owner renews it, so that a dead owner's lease expires. It names its owner.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import json
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from affectgrid.errors import Problem, StoreError
from affectgrid.storage.places import Storage

_log = logging.getLogger(__name__)
TTL_S = 60.0  # after the last renewal of a dead owner; a living one renews four times as often
_CLOCK_SKEW_S = 5.0  # by which the clocks of two nodes may differ


class LeaseTakenError(Exception):
    """Another process, described in the message, is the owner."""


@contextlib.contextmanager
def exclusive(
    storage: Storage, name: str, *, ttl_s: float = TTL_S, on_lost: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Be the only process that holds `name` under `storage` while the block runs.

    In a folder the kernel releases the lock when the process dies. In a bucket a dead owner's lease expires after
    `ttl_s`; if it finds one that is not being renewed, this waits until then. `on_lost` is called from a background
    thread when the lease could not be renewed in time. Raises LeaseTakenError, StoreError, OSError.
    """
    if storage.path is not None:
        storage.path.mkdir(parents=True, exist_ok=True)
        with (storage.path / name).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LeaseTakenError("another process of this machine, or of one that shares the folder") from error
            yield
        return
    lease = _Lease(_objects(storage, name), ttl_s, on_lost)
    lease.acquire()
    try:
        yield
    finally:
        lease.release()


@dataclasses.dataclass(frozen=True)
class _Version:
    """One state of the lease's object."""

    tag: str
    content: dict[str, Any]

    @property
    def left_s(self) -> float:
        return float(self.content["expires"]) - time.time()

    def describe(self) -> str:
        began = datetime.datetime.fromtimestamp(self.content["began"]).astimezone().isoformat(timespec="seconds")
        return f"process {self.content['pid']} on {self.content['host']}, since {began}"


class _Objects(Protocol):
    """Conditional access to the lease's object: by S3's conditions, or without any where there are none."""

    def read(self) -> _Version | None: ...

    def put(self, content: dict[str, Any], expected: _Version | None) -> str | None:
        """The new version's tag; None where the object is not the expected one."""

    def delete(self, expected: _Version) -> None: ...


class _Lease:
    def __init__(self, objects: _Objects, ttl_s: float, on_lost: Callable[[], None]) -> None:
        self._objects, self._ttl_s, self._on_lost = objects, ttl_s, on_lost
        self._owner = {"token": uuid.uuid4().hex, "host": platform.node(), "pid": os.getpid(), "began": time.time()}
        self._mine: _Version | None = None
        self._released = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name="lease", daemon=True)

    def acquire(self) -> None:
        found = self._objects.read()
        waited_for = None
        while True:
            if found is not None and found.left_s > -_CLOCK_SKEW_S:
                if waited_for is not None and found.tag != waited_for.tag:
                    raise LeaseTakenError(found.describe())  # it was renewed: its owner lives
                if waited_for is None:
                    _log.warning("waiting for the lease of %s to expire, or to be renewed", found.describe())
                waited_for = found
                time.sleep(min(2.0, max(0.1, self._ttl_s / 20)))
                found = self._objects.read()
                continue
            content = self._content()
            tag = self._objects.put(content, found)
            if tag is not None:
                self._mine = _Version(tag, content)
                self._renewer.start()
                return
            found = self._objects.read()

    def release(self) -> None:
        self._released.set()
        self._renewer.join()
        if self._mine is not None:
            with contextlib.suppress(Exception):  # it expires by itself
                self._objects.delete(self._mine)

    def _content(self) -> dict[str, Any]:
        return {**self._owner, "expires": time.time() + self._ttl_s}

    def _renew(self) -> None:
        while not self._released.wait(self._ttl_s / 4):
            mine = self._mine
            assert mine is not None
            content = self._content()
            try:
                tag = self._objects.put(content, mine)
            except Exception as error:  # the network; as long as the lease holds there is time to try again
                _log.warning("the lease could not be renewed: %s", error)
                if mine.left_s > 0:
                    continue
                tag = None
            if tag is None:
                self._mine = None
                self._on_lost()
                return
            self._mine = _Version(tag, content)


class _S3Objects:
    """S3's own conditions, through boto3: pyarrow knows none."""

    def __init__(self, storage: Storage, name: str) -> None:
        import boto3  # an extra; only a driver whose results go to a bucket needs it

        parts = urlsplit(storage.uri)
        options = {key: values[0] for key, values in parse_qs(parts.query).items()}
        endpoint = options.get("endpoint_override")
        self._client = boto3.client(
            "s3",
            region_name=options.get("region"),
            endpoint_url=f"{options.get('scheme', 'https')}://{endpoint}" if endpoint else None,
        )
        bucket, _, folder = storage.at().partition("/")
        self._place = {"Bucket": bucket, "Key": f"{folder}/{name}".lstrip("/")}

    def read(self) -> _Version | None:
        try:
            answer = self._client.get_object(**self._place)
        except self._client.exceptions.NoSuchKey:
            return None
        return _Version(answer["ETag"], json.loads(answer["Body"].read()))

    def put(self, content: dict[str, Any], expected: _Version | None) -> str | None:
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected.tag}
        try:
            return str(self._client.put_object(Body=json.dumps(content).encode(), **self._place, **condition)["ETag"])
        except self._client.exceptions.ClientError as error:
            # 409: another conditional put was under way at the same moment; 404: released between reading and putting
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in (404, 409, 412):
                return None
            raise

    def delete(self, expected: _Version) -> None:
        self._client.delete_object(**self._place, IfMatch=expected.tag)


class _PlainObjects:
    """Where no condition is known: the token is read back after a pause. Two that start in one second may both lose."""

    _PAUSE_S = 1.0
    _MAX_READS = 10

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage, self._name = storage, name

    def read(self) -> _Version | None:
        for tries_left in range(self._MAX_READS - 1, -1, -1):
            try:
                content = self._storage.read_json(self._name)
            except FileNotFoundError:
                return None
            except ValueError:  # another put came between asking for the size and reading so many bytes
                if not tries_left:
                    raise
                continue
            return _Version(f"{content['token']} {content['expires']}", content)
        return None

    def put(self, content: dict[str, Any], expected: _Version | None) -> str | None:
        if (found := self.read()) != expected and (found is None or found.tag != getattr(expected, "tag", None)):
            return None
        self._storage.write_json(self._name, content)
        if expected is None or expected.content["token"] != content["token"]:
            time.sleep(self._PAUSE_S)
        after = self.read()
        return after.tag if after is not None and after.content["token"] == content["token"] else None

    def delete(self, expected: _Version) -> None:
        if self.read() == expected:
            self._storage.delete(self._name)


def _objects(storage: Storage, name: str) -> _Objects:
    if not storage.uri.startswith("s3://"):
        return _PlainObjects(storage, name)
    try:
        return _S3Objects(storage, name)
    except ImportError as error:
        raise StoreError(
            Problem(
                "STO-PACKAGE",
                where=storage.address,
                found="no package boto3, which the lease of a bucket needs",
                expected="the extra s3",
                hint="pip install 'affectgrid[s3]'",
            )
        ) from error
