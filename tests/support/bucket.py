"""A real S3 protocol on this machine: moto's server, in this process, with a bucket."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import pyarrow.fs as pafs
import pytest

NAME = "bucket"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret-swordfish"}


@dataclasses.dataclass(frozen=True)
class Bucket:
    """An empty bucket. Its credentials stand in the whole suite's environment, for the Ray that tests share."""

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
    try:
        host, port = server.get_host_and_port()
        bucket = Bucket(f"{host}:{port}")
        fs, _ = pafs.FileSystem.from_uri(bucket.uri("") + "&allow_bucket_creation=true")
        fs.create_dir(NAME)
        yield bucket
    finally:
        server.stop()
