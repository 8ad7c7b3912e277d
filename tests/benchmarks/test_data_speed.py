"""Reading labels and checking a data set of Aff-Wild2's size. See docs/benchmarks.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import pytest

from affectgrid.data.annotations import Annotation, read_annotation, write_annotation
from benchmarks.conftest import CACHE
from benchmarks.films import add_sound, draw_film
from benchmarks.timing import alternate
from support.processes import REPOSITORY

NUM_TRACKS, NUM_FRAMES = 600, 5_000


@pytest.fixture(scope="module")
def labels() -> Annotation:
    """A walk over the plane, with one frame in twenty unlabelled."""
    random = np.random.default_rng(0)
    steps = np.cumsum(random.normal(0, 0.02, (NUM_FRAMES, 2)), axis=0)
    return Annotation(np.sin(steps).astype(np.float32), random.random(NUM_FRAMES) > 0.05)


def test_data_labels(say, labels: Annotation, tmp_path: Path) -> None:
    """Rows per second of the checked reader over those of pandas, on 40 files."""
    paths = [tmp_path / f"{number}.txt" for number in range(40)]
    for path in paths:
        write_annotation(path, labels)
    assert np.array_equal(read_annotation(paths[0]).va, np.where(labels.valid[:, None], labels.va, 0))

    def ours() -> float:
        started = time.perf_counter()
        for path in paths:
            read_annotation(path)
        return len(paths) * NUM_FRAMES / (time.perf_counter() - started)

    def theirs() -> float:
        started = time.perf_counter()
        for path in paths:
            pandas.read_csv(path)
        return len(paths) * NUM_FRAMES / (time.perf_counter() - started)

    rows, baseline = alternate([ours, theirs], repeats=9)
    say("data_labels", rows / baseline, f"{rows / 1e6:.2f} over {baseline / 1e6:.2f} million rows/s", ">= 1")


def test_data_doctor(say, labels: Annotation, tmp_path: Path) -> None:
    """`jobs/validate.py` as a command on 600 tracks with 3 million rows: 480p videos with sound, a sample decoded."""
    root = tmp_path / "corpus"
    film = draw_film(CACHE / f"film-480p-{NUM_FRAMES}.mp4", num_frames=NUM_FRAMES, height=480)
    (root / "videos").mkdir(parents=True)
    whole = add_sound(film, tmp_path / "film.mp4")
    for number in range(NUM_TRACKS):
        name, split = f"track{number:03d}", "Train_Set" if number % 6 else "Validation_Set"
        os.link(whole, root / "videos" / f"{name}.mp4")  # one file under many names: read from memory
        path = root / "VA_Estimation_Challenge" / split / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_annotation(path, labels)
    command = [sys.executable, REPOSITORY / "jobs/validate.py", "--data", root, "--out", tmp_path / "out"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "platform")}
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    seconds = time.perf_counter() - started
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    card = json.loads((tmp_path / "out" / "data_card.json").read_text())
    assert sum(split["labels"] for split in card["splits"].values()) == NUM_TRACKS * NUM_FRAMES
    assert sum(split["frames"] for split in card["splits"].values()) == NUM_TRACKS * NUM_FRAMES
    say("data_doctor", seconds / 60, f"{seconds:.1f} of 60 s for {NUM_TRACKS} tracks", "<= 1")
