"""Memory and repetition: what must not grow with the corpus. See docs/benchmarks.md."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from affectgrid.data.catalog import read_folder
from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.run import encode
from benchmarks.films import draw_film, repeat_film

HERE = Path(__file__).parent


def test_encode_memory(say, tmp_path: Path) -> None:
    """Peak memory of the process tree for two hours of 720p over that for two minutes, at one frame a second."""
    peaks = []
    for minutes in (2, 120):
        folder = tmp_path / f"{minutes}min"
        folder.mkdir()
        repeat_film(folder / "film.mp4", minutes=minutes)
        done = subprocess.run(
            [sys.executable, str(HERE / "memory_driver.py"), str(folder), str(folder / "store"), "1"],
            env=os.environ | {"PYTHONPATH": str(HERE.parents[1] / "platform")},
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        peaks.append(int(done.stdout.strip().splitlines()[-1]))
    short, long = (peak / 2**20 for peak in peaks)
    say("encode_memory", long / short, f"{long:.0f} over {short:.0f} MiB", "<= 1.05")


@pytest.mark.usefixtures("ray_cluster")
def test_encode_resume(say, tmp_path: Path) -> None:
    """A second run's time over the first's, for 500 tracks of a few frames."""
    folder = tmp_path / "films"
    folder.mkdir()
    film = draw_film(tmp_path / "film.mp4", num_frames=8, height=96)
    for number in range(500):
        shutil.copy(film, folder / f"film{number:03d}.mp4")
    config = EncodeConfig(visual=VisualStream(crop="frame"), audio=AudioStream(hop_s=1.0))
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        report = encode(read_folder(folder), tmp_path / "store", config)
        seconds.append(time.perf_counter() - started)
        assert report.quarantined == ()
    assert report.encoded == 0
    say("encode_resume", seconds[1] / seconds[0], f"{seconds[1]:.2f} over {seconds[0]:.1f} s", "<= 0.02")
