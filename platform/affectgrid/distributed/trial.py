"""A trial, as a worker runs it: every seed in turn, in this process, on features that it shares with its neighbours."""

from __future__ import annotations

import shutil
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from ray import tune

from affectgrid.distributed.searcher import OBJECTIVE
from affectgrid.search.ledger import trial_folder
from affectgrid.search.objective import LATENCY_MS
from affectgrid.search.optuna_glue import Assignment, assignment
from affectgrid.search.schema import SearchSpace
from affectgrid.training.checkpoint import CheckpointFolder, Save
from affectgrid.training.cost import model_costs
from affectgrid.training.loop import Metrics, Report, fit
from affectgrid.training.package import save_package
from affectgrid.training.prepared import PreparedData

WORST = -1.0  # P of a trial without one: the objective must be there in every report
_SAVE_EVERY_S = 60.0  # what a kill may cost a long trial; a short one is not slowed down


def run_trial(config: dict[str, Any], *, space: SearchSpace, data: PreparedData, study: str, num_threads: int) -> None:
    """Tune's trainable. It reports every epoch, and at the end ``finished`` or the ``failure``.

    An error of the trial's own is reported, not raised: it would happen again, and the process with its imports and its
    features goes on to the next trial.
    """
    torch.set_num_threads(num_threads)
    assigned = assignment(space, config["number"], config["proposal"])
    folder = trial_folder(Path(study), assigned.number)
    began = time.monotonic()
    try:
        objective, costs = _run_seeds(assigned, space, data, folder)
    except Exception as error:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text(traceback.format_exc())
        failure = f"{type(error).__name__}: {error}"
        tune.report({OBJECTIVE: WORST, "failure": failure, "duration_s": time.monotonic() - began})
    else:
        duration_s = time.monotonic() - began
        tune.report({OBJECTIVE: objective, "costs": costs, "finished": True, "duration_s": duration_s})


def _run_seeds(
    assigned: Assignment, space: SearchSpace, data: PreparedData, folder: Path
) -> tuple[float, dict[str, float]]:
    """The mean over the seeds of the best P, and what a model of this shape costs."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    best: list[float] = []
    costs: dict[str, float] = {}
    for seed in assigned.seeds:
        config = space.resolve(assigned.values, seed=seed)
        prompts = data.prompts[config.prompt.file]
        checkpoints = CheckpointFolder(folder / f"seed-{seed}-checkpoints")
        result = fit(
            config,
            data.train,
            data.validation,
            prompts,
            report=_reporter(seed, best, checkpoints),
            resume=checkpoints.load(),
            device=device,
        )
        encoders = dict(data.train.encoders)
        save_package(
            package_folder(folder, seed), result.model, config, prompts.grid, encoders=encoders, metrics=result.best
        )
        best.append(result.best["val/p"])
        costs = costs or model_costs(
            result.model.to(device),
            data.validation,
            config.window,
            device=device,
            latency=any(goal.metric == LATENCY_MS for goal in space.objective),
        )
        shutil.rmtree(checkpoints.root, ignore_errors=True)
    return sum(best) / len(best), costs


def package_folder(trial: Path, seed: int) -> Path:
    """Where a trial keeps the model of a seed."""
    return trial / f"seed-{seed}"


def _reporter(seed: int, best: list[float], checkpoints: CheckpointFolder) -> Report:
    """Reports the mean of the finished seeds' best P and of this one's so far; saves a checkpoint now and then."""
    finished, saved = tuple(best), time.monotonic()

    def report(metrics: Metrics, save: Save) -> None:
        nonlocal saved
        if time.monotonic() - saved > _SAVE_EVERY_S:
            checkpoints.keep(metrics, save)
            saved = time.monotonic()
        objective = (sum(finished) + metrics["val/p_best"]) / (len(finished) + 1)
        tune.report({OBJECTIVE: objective, "seed": seed, "metrics": metrics})

    return report
