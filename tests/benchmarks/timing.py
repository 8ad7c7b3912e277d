"""Timing of steps and epochs: medians of alternating repeats."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from affectgrid.data.splits.resident import Split
from affectgrid.training.config import TrainConfig
from affectgrid.training.data import PreparedData
from affectgrid.training.loop import fit


def alternate(contenders: Sequence[Callable[[], float]], repeats: int) -> list[float]:
    """Median of what each of the contenders returns, run in turn `repeats` times after a warm-up."""
    for contender in contenders:
        contender()
    results = [[contender() for contender in contenders] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*results, strict=True)]


def seconds(work: Callable[[], object], least_s: float = 0.2) -> float:
    """Time of one call: the fastest of at least three."""
    times: list[float] = []
    while sum(times) < least_s or len(times) < 3:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def epoch_seconds(config: TrainConfig, data: PreparedData, train: Split, validation: Split) -> float:
    """Median time of an epoch of `fit`, the first left out: it builds the model."""
    torch.set_num_threads(1)
    times: list[float] = []
    fit(config, train, validation, data.prompts_for(config), report=lambda *_: times.append(time.perf_counter()))
    return statistics.median(after - before for before, after in itertools.pairwise(times))
