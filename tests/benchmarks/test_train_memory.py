"""Memory of training at the data set's size: resident features once, whatever reads them. See docs/benchmarks.md."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.corpora import FULL, corpus

HERE = Path(__file__).parent


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "goal"), [("one", "<= 1.25"), ("four", "<= 1.6")])
def test_train_memory(say, tmp_path: Path, kind: str, goal: str) -> None:
    """Peak memory of all processes over the bytes of the features: one training, and four trials at once."""
    corpus(FULL)  # written by a process that is not watched
    paths = os.pathsep.join(str(HERE.parents[1] / name) for name in ("platform", "tests"))
    done = subprocess.run(
        [sys.executable, str(HERE / "train_memory_driver.py"), kind, str(FULL), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    peak, size = (int(word) for word in done.stdout.strip().splitlines()[-1].split())
    say("train_memory", peak / size, f"{kind}, {peak / 1e9:.2f} over {size / 1e9:.2f} GB", goal)
