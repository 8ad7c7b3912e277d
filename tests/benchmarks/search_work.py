"""Trials of one size for the benchmarks of the search, and the loop that a researcher writes around them."""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import torch

from affectgrid.search.space.reading import parse_space
from affectgrid.search.space.schema import SearchSpace
from affectgrid.search.study.sampling import make_sampler, propose
from affectgrid.training.data import PreparedData
from affectgrid.training.loop import fit
from support.planted import planted_prompts, planted_split

TRIAL_S = 1.5
_CONSTANTS = {
    "model.hidden_dim": 32,
    "model.num_heads": 2,
    "window.length": 150,
    "window.stride": 100,
    "optim.batch_size": 8,
}
_LR = {"optim.lr": {"float": [1e-3, 1e-2], "log": True}}  # every value makes the same work


@functools.cache
def data() -> PreparedData:
    """Twelve tracks of 300 frames to learn from, six to validate on."""
    return PreparedData(
        train=planted_split("train", [300] * 12),
        validation=planted_split("validation", [300] * 6, seed=1),
        prompts={"3x3-plain": planted_prompts()},
        fingerprint="planted",
    )


def space(name: str, *, trials: int, epochs: int, **changes: Any) -> SearchSpace:
    """A study of equal trials."""
    constants = {**_CONSTANTS, "optim.epochs": epochs}
    return parse_space({"name": name, "trials": trials, "constants": constants, "space": _LR, **changes})


def run(study: SearchSpace, values: dict[str, Any]) -> float:
    """One trial without anything around it."""
    config = study.resolve(values, seed=0)
    return float(fit(config, data().train, data().validation, data().prompts["3x3-plain"]).best["val/p"])


def equal_epochs() -> int:
    """How many epochs take one thread of this machine `TRIAL_S`, as it is now."""
    torch.set_num_threads(1)
    run(space("size", trials=1, epochs=1), {})  # the first one loads code
    seconds = []
    for epochs in (2, 10):
        started = time.perf_counter()
        run(space("size", trials=1, epochs=epochs), {})
        seconds.append(time.perf_counter() - started)
    return max(4, round(TRIAL_S / ((seconds[1] - seconds[0]) / 8)))


def side_by_side(epochs: int, *, trials: int, processes: int) -> float:
    """Mean seconds of a bare trial where as many bare processes as ours has workers run them: the machine's limit."""
    command = [sys.executable, "-m", "benchmarks.search_work", str(epochs), str(trials)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return statistics.fmean(float(process.communicate(timeout=300)[0]) for process in running)


def researchers_loop(study: SearchSpace, *, trials: int, threads: int) -> float:
    """`study.optimize` in this process, the features loaded once; returns its wall seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = optuna.create_study(direction="maximize", sampler=make_sampler(study, num_asked=0))
    started = time.perf_counter()
    found.optimize(lambda trial: run(study, propose(trial, space=study)), n_trials=trials)
    seconds = time.perf_counter() - started
    torch.set_num_threads(before)
    return seconds


if __name__ == "__main__":
    torch.set_num_threads(1)
    _study = space("bare", trials=1, epochs=int(sys.argv[1]))
    run(_study, {})  # the first one loads code
    _started = time.perf_counter()
    for _ in range(int(sys.argv[2])):
        run(_study, {})
    print((time.perf_counter() - _started) / int(sys.argv[2]))
