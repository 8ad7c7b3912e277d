"""No credential in anything that a run writes or prints, whatever option it came by."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from affectgrid.storage import Storage
from support.bucket import CREDENTIALS, Bucket, s3_server
from support.mlflow_server import MlflowServer, gate

BUCKET_SECRET = CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
USER, PASSWORD = "researcher", "open/sesame#marzipan"
QUICK = [
    "--config.optim.epochs=1",
    "--config.model.hidden-dim=16",
    "--config.window.length=40",
    "--config.window.stride=40",
]


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_server() as server:
        yield server


def with_login(uri: str, user: str, password: str) -> str:
    return uri.replace("://", f"://{quote(user)}:{quote(password, safe='')}@", 1)


@pytest.fixture
def ray() -> Iterator[Path]:
    """A folder for Ray's session: sockets allow no long path."""
    with tempfile.TemporaryDirectory(prefix="ag") as folder:
        yield Path(folder)


def hiding_places(folders: Iterable[Path], bucket: Bucket) -> Iterator[tuple[str, bytes]]:
    """Every file below the folders, and every object of the bucket."""
    for path in itertools.chain.from_iterable(folder.rglob("*") for folder in folders):
        if path.is_file() and not path.is_symlink():
            yield str(path), path.read_bytes()
    objects = Storage(bucket.uri(""))
    for entry in objects.list_files(recursive=True):
        yield f"s3: {entry.name}", objects.read(entry.name)


def train(bucket: Bucket, repository: Path, rendered: Path, tmp_path: Path, ray: Path, tracking: str, secret: str):
    environment = {name: value for name, value in os.environ.items() if name not in CREDENTIALS}
    environment |= {
        "AFFECTGRID_CACHE": str(tmp_path / "cache"),
        "RAY_TMPDIR": str(ray),
        "MLFLOW_TRACKING_URI": tracking,
        "COLUMNS": "200",
    }
    places = {name: with_login(bucket.uri(f"secrets/{name}"), "test-key", secret) for name in ("out", "features")}
    command = [sys.executable, "jobs/train.py", "--data", str(rendered), "--name", "one", *QUICK]
    command += ["--out", places["out"], "--store", places["features"]]
    return subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def test_nothing_that_a_run_leaves_holds_a_secret(
    bucket: Bucket, repository: Path, rendered: Path, tmp_path: Path, ray: Path
):
    (tmp_path / "mlflow").mkdir()
    with MlflowServer(tmp_path / "mlflow") as server, gate(server.uri, USER, PASSWORD) as front:
        tracking = with_login(f"http://{front.address}", USER, PASSWORD)
        done = train(bucket, repository, rendered, tmp_path, ray, tracking, BUCKET_SECRET)
    assert done.returncode == 0, done.stdout + done.stderr
    assert Storage(bucket.uri("secrets/out")).exists("runs/one/model/model.safetensors")
    found = [
        *hiding_places((tmp_path, ray), bucket),
        ("stdout", done.stdout.encode()),
        ("stderr", done.stderr.encode()),
    ]
    assert len(found) > 50
    assert any(b"one" in content and "server.db" in place for place, content in found)
    for secret in (BUCKET_SECRET, PASSWORD, quote(PASSWORD, safe="")):
        assert [place for place, content in found if secret.encode() in content] == []
