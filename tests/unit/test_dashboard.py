"""``make dashboard`` opens the newest study."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def make_dashboard(repository: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """The target itself, with a program in the dashboard's place that prints what it is given."""
    shown = tmp_path / "bin" / "optuna-dashboard"
    shown.parent.mkdir(exist_ok=True)
    shown.write_text('#!/bin/sh\necho "opens $1"\n')
    shown.chmod(0o755)
    # -o: the environment is not to be made again
    command = ["make", "-o", ".venv/.ready", "dashboard", f"BIN={shown.parent}", f"OUT={tmp_path / 'out'}"]
    # as from a shell, also where the tests were themselves started by make, which would be told and announced
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)


def test_the_newest_study_is_opened(repository: Path, tmp_path: Path):
    for age, name in enumerate(("newest", "older", "oldest")):
        path = tmp_path / "out" / "studies" / name / "study.journal"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    done = make_dashboard(repository, tmp_path)
    assert done.stdout.strip() == f"opens {tmp_path}/out/studies/newest/study.journal"


def test_without_a_study_it_says_how_to_get_one(repository: Path, tmp_path: Path):
    done = make_dashboard(repository, tmp_path)
    assert done.returncode != 0
    assert "make demo" in done.stdout
