"""A real MLflow server that a test kills and starts again, and a gate before it that asks for a password."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

from support.processes import wait_until


def free_port() -> int:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class MlflowServer:
    """`mlflow server` on a SQLite database, with its artefacts, in a folder that outlives it.

    Args:
        folder: for the database, the artefacts and the log.
        options: more of the command line.
        environment: more of the environment.
    """

    def __init__(self, folder: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
        self.folder, self.options, self.environment = folder, options, dict(environment or {})
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: psutil.Process | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1", *self.options]
        store = ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        store += ["--artifacts-destination", str(self.folder / "files")]
        small = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("a") as log:
            process = subprocess.Popen(
                [*command, *store], env={**os.environ, **small, **self.environment}, stdout=log, stderr=log
            )
        self._process = psutil.Process(process.pid)
        wait_until(self._answers, alive=process)

    def kill(self) -> None:
        """End it and its workers at once; nothing happens where it does not run."""
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                members = [self._process, *self._process.children(recursive=True)]
                for member in members:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        member.kill()
                psutil.wait_procs(members, timeout=10)
            self._process = None

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"{self.uri}/health", timeout=2).status == 200)
        return False

    def __enter__(self) -> MlflowServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Gate(ThreadingHTTPServer):
    """Forwards to a server what comes with the right `authorization`, and answers 401 to the rest."""

    def __init__(self, behind: str, user: str, password: str, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.behind = behind
        self.authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.address = f"127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def gate(behind: str, user: str, password: str, port: int = 0) -> Iterator[Gate]:
    """A gate; 0: on a free port."""
    server = Gate(behind, user, password, port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Gate

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, content = 401, b"who are you?"
        if self.headers.get("Authorization") == self.server.authorization:
            headers = {name: value for name, value in self.headers.items() if name == "Content-Type"}
            asked = urllib.request.Request(
                self.server.behind + self.path, body or None, headers=headers, method=self.command
            )
            try:
                with urllib.request.urlopen(asked, timeout=30) as answer:
                    status, content = answer.status, answer.read()
            except urllib.error.HTTPError as error:
                status, content = error.code, error.read()
            except OSError:
                status, content = 502, b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _forward  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""
