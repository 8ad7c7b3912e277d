"""Baselines in a folder of their own, so that their pins touch nothing of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REQUIREMENTS = {  # by the name of their folder; what else they need is in our environment
    "baselines": (
        "clip-video-encode==1.3.0", "video2numpy==2.3.0", "opencv-python-headless==5.0.0.93", "webdataset==0.2.111",
        "braceexpand==0.1.7", "youtube_dl==2021.12.17", "ffmpeg-python==0.2.0", "future==1.0.0",
    ),
    "daft": ("daft==0.7.26",),
    "decord": ("decord==0.6.0",),  # what Ray Data reads videos with
    "lightning": ("lightning==2.6.6",),
}  # fmt: skip
SILENT = {"DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0"}  # nothing is told to anyone


def environment(cache: Path, name: str = "baselines") -> dict[str, str]:
    """Variables for a process that sees our packages and those of a baseline. Skips where they cannot be fetched."""
    folder = cache / name
    if not folder.is_dir():
        draft = folder.with_name(f".{name}.{os.getpid()}")
        command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        try:
            subprocess.run([*command, "--target", str(draft), *REQUIREMENTS[name]], check=True, timeout=300)
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"{name} cannot be fetched: {error}")
        draft.rename(folder)
    variables = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    paths = (folder, HERE.parent, HERE.parents[1] / "platform")
    return variables | SILENT | {"PYTHONPATH": os.pathsep.join(map(str, paths))}


def run_script(name: str, arguments: list[str], variables: dict[str, str]) -> str:
    """The last line that a script beside this file prints."""
    done = subprocess.run(
        [sys.executable, str(HERE / name), *arguments], env=variables, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]
