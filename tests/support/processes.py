"""Drivers that tests start, watch and kill, and everything that those start in turn."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
_MARK = "AFFECTGRID_TEST_FAMILY"


class Family:
    """Processes of one test, known by a mark in their environment, which children inherit."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.mark = uuid.uuid4().hex

    def start(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start ``python -m module``; its Ray lives under a short folder."""
        return self._start([sys.executable, "-m", module, *arguments], environment)

    def start_job(self, job: str, arguments: Sequence[str]) -> subprocess.Popen[str]:
        """Start ``python jobs/JOB.py``, as a user does."""
        return self._start([sys.executable, str(REPOSITORY / "jobs" / f"{job}.py"), *arguments])

    def _start(self, command: list[str], more: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        environment = {**os.environ, **self.environment(), **(more or {})}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def environment(self) -> dict[str, str]:
        """What makes a process, and all that it starts, one of the family."""
        roots = [str(REPOSITORY / "platform"), str(REPOSITORY / "tests")]
        return {_MARK: self.mark, "PYTHONPATH": os.pathsep.join(roots), "RAY_TMPDIR": str(self.tmp)}

    def run(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        timeout_s: float = 240,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[str, str]:
        """Start and wait; returns what it wrote to stdout and stderr, and fails if it failed."""
        process = self.start(module, arguments, environment)
        out, err = process.communicate(timeout=timeout_s)
        assert process.returncode == 0, err[-4000:]
        return out, err

    def members(self, name: str = "") -> list[psutil.Process]:
        """Living processes of the family whose command line holds `name`."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                marked = process.environ().get(_MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE
                if marked and name in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def end(self) -> None:
        """Kill what is left, by its number."""
        for _ in range(20):
            left = self.members()
            if not left:
                return
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=5)


@contextlib.contextmanager
def family(tmp: Path) -> Iterator[Family]:
    """Processes that do not outlive the block."""
    group = Family(tmp)
    try:
        yield group
    finally:
        group.end()


def wait_until(condition: Callable[[], bool], *, alive: subprocess.Popen[str], timeout_s: float = 180) -> None:
    """Wait for a condition while `alive` runs; fails with its error output if it ends first."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert alive.poll() is None, alive.communicate()[1][-4000:]
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)
