"""Baselines in a folder of their own, so that their pins touch nothing of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REQUIREMENTS = (
    "clip-video-encode==1.3.0", "video2numpy==2.3.0", "opencv-python-headless==5.0.0.93", "webdataset==0.2.111",
    "braceexpand==0.1.7", "youtube_dl==2021.12.17", "ffmpeg-python==0.2.0", "future==1.0.0",
)  # fmt: skip


def environment(cache: Path) -> dict[str, str]:
    """Variables for a process that sees our packages and the baselines'. Skips where they cannot be fetched."""
    folder = cache / "baselines"
    if not folder.is_dir():
        draft = folder.with_name(f".baselines.{os.getpid()}")
        command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        try:
            subprocess.run([*command, "--target", str(draft), *REQUIREMENTS], check=True, timeout=300)
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"the baselines cannot be fetched: {error}")
        draft.rename(folder)
    variables = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return variables | {"PYTHONPATH": str(folder)}
