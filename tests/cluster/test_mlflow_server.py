"""MLflow as the head's unit starts it: PostgreSQL, artefacts through the server into a bucket, back-up, restore."""

from __future__ import annotations

import configparser
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

BUCKET = "mlflow-bucket"
_POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not _POSTGRES, reason="PostgreSQL is not here: apt-get install postgresql"),
]


def _unit(repository: Path, name: str) -> tuple[dict[str, str], str]:
    """What a unit sets in the environment, and the command that it starts."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    text = (repository / "deploy" / "systemd" / name).read_text()
    settings = dict(
        line.removeprefix("Environment=").split("=", 1) for line in re.findall(r"^Environment=.*", text, re.M)
    )
    parser.read_string(text)
    return settings, parser["Service"]["ExecStart"]


def _command(start: str, repository: Path, environment: Mapping[str, str]) -> list[str]:
    """The command as systemd would make it, with this checkout and this environment in place of the head's."""
    filled = re.sub(r"\$\{(\w+)\}", lambda found: environment[found[1]], start)
    words = [word.replace("/home/%i/affectgrid/.venv", sys.prefix) for word in shlex.split(filled)]
    assert not any("%" in word or "$" in word for word in words)
    return words


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Database:
    """A PostgreSQL of its own: the distribution's binaries, an unprivileged user, a private folder and socket."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.bin = folder, _free_port(), _POSTGRES[-1].parent
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self.uri = f"postgresql:///mlflow?host={folder}&port={self.port}&user={self.user}"

    def create(self) -> None:
        """An empty data folder, a running server, and an empty database."""
        self._run("initdb", "-A", "trust", "-D", str(self.folder / "data"))
        options = f"-k {self.folder} -p {self.port} -c listen_addresses="
        self._run(
            "pg_ctl", "-w", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-o", options, "start"
        )
        self._run("createdb", "-h", str(self.folder), "-p", str(self.port), "mlflow")

    def destroy(self) -> None:
        """As when the head's disk is gone."""
        self._run("pg_ctl", "-m", "immediate", "-D", str(self.folder / "data"), "stop")
        shutil.rmtree(self.folder / "data")

    def _run(self, program: str, *arguments: str) -> None:
        drop = (
            ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"] if os.geteuid() == 0 else []
        )
        done = subprocess.run(
            [*drop, self.bin / program, *arguments], cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert done.returncode == 0, done.stderr.decode()


@pytest.fixture
def database(short_tmp: Path) -> Iterator[Database]:
    found = Database(short_tmp)
    if os.geteuid() == 0:
        shutil.chown(short_tmp, "postgres", "postgres")
        short_tmp.chmod(0o755)
    found.create()
    yield found
    found.destroy()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A versioned bucket; its address and keys come from the environment, as everywhere."""
    boto3 = pytest.importorskip("boto3")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    yield f"s3://{BUCKET}/affectgrid"
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    server.stop()


class Server:
    """`mlflow server`, by the unit's own ExecStart."""

    def __init__(self, repository: Path, database: Database, out: str, log: Path) -> None:
        settings, start = _unit(repository, "affectgrid-mlflow@.service")
        assert "MLFLOW_BACKEND_STORE_URI" in settings
        self.port = _free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        env_file = {"AFFECTGRID_OUT": out, "MLFLOW_TRACKING_URI": self.uri, "RAY_AUTH_MODE": "token"}
        self.environment = {**os.environ, **settings, **env_file, "MLFLOW_BACKEND_STORE_URI": database.uri}
        self.command = [
            str(self.port) if word == "5000" else word for word in _command(start, repository, self.environment)
        ]
        self.log = log

    def __enter__(self) -> Server:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return self
            except OSError:
                assert self.process.poll() is None, self.log.read_text()[-3000:]
                assert time.monotonic() < deadline, self.log.read_text()[-3000:]
                time.sleep(0.3)

    def __exit__(self, *_: object) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _backup(repository: Path, server: Server, *arguments: str) -> str:
    _, start = _unit(repository, "affectgrid-mlflow-backup@.service")
    command = [*_command(start, repository, server.environment)[:-1], *arguments]  # the unit's own ends in `save`
    done = subprocess.run(command, cwd=repository, env=server.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_lost_database_comes_back_from_the_bucket(
    repository: Path, database: Database, bucket: str, tmp_path: Path
) -> None:
    pytest.importorskip("psycopg")
    import boto3

    from affectgrid.tracking import open_tracker

    server = Server(repository, database, bucket, tmp_path / "server.log")
    model = tmp_path / "model.bin"
    model.write_bytes(b"weights" * 1000)
    with server:
        tracker = open_tracker(server.uri, "affectgrid")
        run = tracker.study("study", {"sigma": 0.3}, {"arm": "full"})
        run.metrics({"ccc": 0.7}, step=3)
        run.artifact(model, "model")
        run.finish()
        key = _keys(bucket, "model.bin")
        name = _backup(repository, server, "save")
        assert _backup(repository, server, "list") == name

    database.destroy()  # and one artefact, by mistake
    boto3.client("s3").delete_object(Bucket=BUCKET, Key=key)
    database.create()
    assert _backup(repository, server, "restore") == f"restored {name}"
    _undelete(key)

    with server:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=server.uri)
        found = client.get_run(run.run_id)
        assert (found.data.params["sigma"], found.data.tags["arm"], found.info.status) == ("0.3", "full", "FINISHED")
        assert [(point.step, point.value) for point in client.get_metric_history(run.run_id, "ccc")] == [(3, 0.7)]
        back = Path(client.download_artifacts(run.run_id, "model/model.bin", str(tmp_path)))
        assert back.read_bytes() == model.read_bytes()
        assert found.info.artifact_uri.startswith("mlflow-artifacts:")  # through the server: clients need no bucket
        assert open_tracker(server.uri, "affectgrid").study("study", {}, {}).run_id == run.run_id


def _keys(bucket: str, ending: str) -> str:
    import boto3

    prefix = bucket.partition(f"{BUCKET}/")[2] + "/mlflow-artifacts/"
    listed = boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    (key,) = [one["Key"] for one in listed["Contents"] if one["Key"].endswith(ending)]
    return str(key)


def _undelete(key: str) -> None:
    """What docs/cluster.md says: take the delete marker away."""
    import boto3

    client = boto3.client("s3")
    (marker,) = client.list_object_versions(Bucket=BUCKET, Prefix=key)["DeleteMarkers"]
    client.delete_object(Bucket=BUCKET, Key=key, VersionId=marker["VersionId"])


def test_restore_refuses_a_database_that_is_not_empty(
    repository: Path, database: Database, bucket: str, tmp_path: Path
) -> None:
    pytest.importorskip("psycopg")
    server = Server(repository, database, bucket, tmp_path / "server.log")
    with server:
        _backup(repository, server, "save")
    with pytest.raises(AssertionError, match="already exists"):
        _backup(repository, server, "restore")
