"""A real S3 protocol on this machine: moto's server, in this process, with a bucket."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator

import pyarrow.fs as pafs
import pytest

NAME = "bucket"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret-swordfish"}


@dataclasses.dataclass(frozen=True)
class Bucket:
    """An empty bucket. Credentials stand in the environment while its server runs."""

    host: str

    def uri(self, folder: str) -> str:
        """The address of a folder in it."""
        return f"s3://{NAME}/{folder}?scheme=http&endpoint_override={self.host}&region=us-east-1"


@contextlib.contextmanager
def s3_server() -> Iterator[Bucket]:
    """A server on a free port of the loopback."""
    module = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    server = module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    before = {name: os.environ.get(name) for name in CREDENTIALS}
    os.environ.update(CREDENTIALS)
    try:
        host, port = server.get_host_and_port()
        bucket = Bucket(f"{host}:{port}")
        fs, _ = pafs.FileSystem.from_uri(bucket.uri("") + "&allow_bucket_creation=true")
        fs.create_dir(NAME)
        yield bucket
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
