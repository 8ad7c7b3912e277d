"""Windows a second of `fit` against the same model, objective and data under Lightning. See docs/benchmarks.md."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from pathlib import Path

import pytest
import torch

from affectgrid.training.config import TrainConfig
from affectgrid.training.data import PreparedData
from affectgrid.training.loop import fit
from benchmarks import peers, training_script
from benchmarks.conftest import CACHE
from benchmarks.corpora import SMALL, few, prepared

EPOCHS = 3


def test_train_vs_lightning(say, tmp_path: Path) -> None:
    """Epochs after the first, one thread for the steps on either side; Lightning's loader has two workers beside it.

    Ours are timed with a validation on one track in each, Lightning's without any.
    """
    data, window = prepared(SMALL), TrainConfig().window
    training_script.write_videos(data.train, tmp_path / "videos")
    num_windows = len(training_script.WindowDataset(tmp_path / "videos", window.length, window.stride))
    variables = peers.environment(CACHE, "lightning") | {"OMP_NUM_THREADS": "1"}
    ours, theirs = [], []
    for _ in range(2):
        arguments = [str(tmp_path / "videos"), str(EPOCHS)]
        told = json.loads(peers.run_script("lightning_driver.py", arguments, variables))
        theirs += told["seconds"][1:]
        seconds, losses = epochs_of_fit(data)
        ours += seconds[1:]
        for epoch in (0, -1):  # the order of windows and dropout's draws differ
            assert losses[epoch] == pytest.approx(told["losses"][epoch], rel=0.1)
    epoch_s, lightning_s = statistics.median(ours), statistics.median(theirs)
    figures = (
        f"{num_windows / epoch_s:.1f} over {num_windows / lightning_s:.1f} windows/s; "
        f"mean loss of epoch {EPOCHS} {losses[-1]:.4f} and {told['losses'][-1]:.4f}"
    )
    say("train_vs_lightning", lightning_s / epoch_s, figures, "> 1")


def epochs_of_fit(data: PreparedData) -> tuple[list[float], list[float]]:
    """Seconds and mean loss of every epoch; the first has the building of the model in it."""
    torch.set_num_threads(1)
    ends, config = [time.perf_counter()], TrainConfig.model_validate({"optim": {"epochs": EPOCHS}})
    result = fit(
        config,
        data.train,
        few(data.validation, 1),
        data.prompts_for(config),
        report=lambda *_: ends.append(time.perf_counter()),
    )
    seconds = [after - before for before, after in itertools.pairwise(ends)]
    return seconds, [epoch["train/loss"] for epoch in result.history]
