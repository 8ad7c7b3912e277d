"""A head that asks for a token: a job that is posted without one is refused."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

JOB = b'{"entrypoint": "true"}'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def guarded_head(repository: Path, short_tmp: Path) -> Iterator[tuple[str, Path]]:
    """The address of a head that ``AUTH=token make cluster`` starts, and its token; in a home of its own."""
    if not (repository / ".venv" / "bin" / "ray").exists():
        pytest.skip("needs the environment that `make install` makes")
    home, dashboard = short_tmp / "home", free_port()
    home.mkdir()
    environment = os.environ | {
        "AUTH": "token", "HOME": str(home), "AFFECTGRID_RAY_TMP": str(short_tmp / "ray"),
        "RAY_PORT": str(free_port()), "RAY_DASHBOARD_PORT": str(dashboard),
        "RAY_AGENT_PORT": str(free_port()),
    }  # fmt: skip
    script = str(repository / ".ci" / "local_cluster.sh")
    try:
        subprocess.run(["bash", script, "start"], env=environment, check=True, capture_output=True, timeout=120)
        yield f"http://127.0.0.1:{dashboard}/api/jobs/", home / ".ray" / "auth_token"
    finally:
        subprocess.run(["bash", script, "stop"], env=environment, check=True, capture_output=True, timeout=60)


def post(url: str, token: str | None) -> int:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=JOB, headers=headers), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_job_without_the_token_is_refused(guarded_head: tuple[str, Path]) -> None:
    url, token_file = guarded_head
    assert token_file.stat().st_mode & 0o077 == 0  # nobody else on this machine reads it
    assert post(url, None) == 401
    assert post(url, "0" * 64) == 403
    token, deadline = token_file.read_text().strip(), time.monotonic() + 120
    while (status := post(url, token)) == 500 and time.monotonic() < deadline:  # the agent that runs jobs comes up last
        time.sleep(0.5)
    assert status == 200
