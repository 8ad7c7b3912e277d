"""What a search finds, and how little it spends on it. See docs/benchmarks.md."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch

from affectgrid.data.resident import Split
from affectgrid.distributed.tune import tune
from affectgrid.regions import RegionGrid, soft_labels
from affectgrid.search.optuna_glue import first_proposals, make_sampler, propose
from affectgrid.search.schema import PROMPT_FILE, SearchSpace
from affectgrid.search.space import parse_space
from affectgrid.search.summary import StudySummary
from affectgrid.tracking import open_tracker
from affectgrid.training.loop import fit
from affectgrid.training.prepared import PreparedData
from support.planted import planted_data, planted_prompts

REPEATS = 5
_TINY = {"model.hidden_dim": 8, "model.num_heads": 2, "window.length": 24, "window.stride": 16, "optim.batch_size": 4}


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.timeout(1800)
def test_search_pruning(say, short_tmp: Path) -> None:
    """Epochs with ASHA over epochs without, at the confirmed P of both winners; the same sampler and seeds."""
    tracker = open_tracker(f"sqlite:///{short_tmp / 'mlflow.db'}", "bench")
    found: dict[str, list[StudySummary]] = {"asha": [], "none": []}
    for repeat, (pruner, summaries) in itertools.product(range(REPEATS), found.items()):
        dimensions = {"optim.lr": {"float": [1e-4, 3e-2], "log": True}, "model.dropout": {"float": [0.0, 0.4]}}
        content = {"name": f"{pruner}-{repeat}", "pruner": pruner, "sampler_seed": repeat, "space": dimensions}
        study = parse_space(content | {"trials": 18, "constants": _TINY | {"optim.epochs": 18}})
        summaries.append(tune(study, planted_data(), storage=short_tmp, tracker=tracker, num_confirm=3))
    work = {pruner: [_epochs(summary) for summary in summaries] for pruner, summaries in found.items()}
    confirmed = {pruner: [_confirmed(summary) for summary in summaries] for pruner, summaries in found.items()}
    saved = [1 - asha / none for asha, none in zip(work["asha"], work["none"], strict=True)]
    change = [asha - none for asha, none in zip(confirmed["asha"], confirmed["none"], strict=True)]
    differs = f"{statistics.fmean(change):+.4f} ({min(change):+.3f} to {max(change):+.3f})"
    figures = f"share of epochs saved, {min(saved):.2f} to {max(saved):.2f}; confirmed P differs by {differs}"
    say("search_pruning", statistics.median(saved), f"{figures} over {REPEATS} repeats", "at equal P")


def _epochs(summary: StudySummary) -> int:
    return sum(len(seed.history) for trial in summary.trials for seed in trial.seeds)


def _confirmed(summary: StudySummary) -> float:
    assert summary.confirmation is not None
    return statistics.fmean(summary.confirmation.best.scores)


GRIDS = {"2x2": 2, "3x3-plain": 3, "5x5": 5, "7x7": 7}
PLANTED_GRID, PLANTED_SIGMA = "5x5", 0.4
SIGMAS = tuple(float(value) for value in np.geomspace(0.1, 2.0, 12))


def finds_space(sampler: str, seed: int) -> SearchSpace:
    """Sigma and grid."""
    dimensions = {"prompt.sigma_ratio": {"float": [0.1, 2.0], "log": True}, PROMPT_FILE: {"choice": list(GRIDS)}}
    content = {"name": "finds", "sampler": sampler, "sampler_seed": seed, "space": dimensions, "trials": 40}
    return parse_space(content | {"constants": _TINY | {"optim.epochs": 4, "prompt.weight": 10.0}})


@functools.cache
def planted_grids() -> PreparedData:
    """Features that are a noisy linear image of the soft labels of one grid at one sigma: those are learnt best."""
    data = planted_data()
    prompts = {}
    for name, size in GRIDS.items():
        prompts[name] = dataclasses.replace(planted_prompts(RegionGrid.square(size)), name=name)
    return dataclasses.replace(
        data, train=_shown(data.train, 0), validation=_shown(data.validation, 1), prompts=prompts
    )


def _shown(split: Split, number: int) -> Split:
    grid = RegionGrid.square(GRIDS[PLANTED_GRID])
    soft = soft_labels(torch.as_tensor(split.va), grid.centres_tensor(), sigma=PLANTED_SIGMA * grid.spacing).numpy()
    mapping, noise = np.random.default_rng(7), np.random.default_rng([8, number])
    shown = [soft @ mapping.normal(size=(soft.shape[1], 12)) for _ in range(2)]
    visual, audio = ((one + 0.1 * noise.normal(size=one.shape)).astype(np.float16) for one in shown)
    return dataclasses.replace(split, visual=visual, audio=audio)


def score(study: SearchSpace, values: dict[str, Any]) -> float:
    """Mean P of two seeds."""
    data = planted_grids()
    configs = [study.resolve(values, seed=seed) for seed in (0, 1)]
    runs = [fit(one, data.train, data.validation, data.prompts[one.prompt.file]) for one in configs]
    return statistics.fmean(run.best["val/p"] for run in runs)


@pytest.mark.timeout(1800)
def test_search_finds(say) -> None:
    """Trials until within 2 % of the best of an exhaustive table of sigma and grid, TPE and random search.

    The samplers are the search's own (`make_sampler`, `propose`, `first_proposals`). Trials are read from the table, of
    which every cell was trained, at the nearest sigma: so five repeats of both cost one table.
    """
    study = finds_space("tpe", 0)
    table = {
        (grid, sigma): score(study, {PROMPT_FILE: grid, "prompt.sigma_ratio": sigma})
        for grid, sigma in itertools.product(GRIDS, SIGMAS)
    }
    best = max(table.values())
    near = sum(value >= 0.98 * best for value in table.values())
    needed = {
        sampler: [_trials_needed(finds_space(sampler, seed), table, 0.98 * best) for seed in range(REPEATS)]
        for sampler in ("tpe", "random")
    }
    tpe, other = (statistics.median(needed[sampler]) for sampler in ("tpe", "random"))
    place = max(table, key=lambda cell: table[cell])
    figures = f"median trials: TPE {tpe:g} {needed['tpe']}, random {other:g} {needed['random']}"
    found = f"{near} of {len(table)} cells within 2 % of the best, which is {place[0]} at {place[1]:.2f}"
    say("search_finds", tpe / other, f"{figures}; {found}; planted: {PLANTED_GRID} at {PLANTED_SIGMA}", "< 1")


def _trials_needed(study: SearchSpace, table: dict[tuple[str, float], float], enough: float, most: int = 200) -> int:
    """Until the first trial that is good enough; `most` where there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = optuna.create_study(direction="maximize", sampler=make_sampler(study, num_asked=0))
    for values in first_proposals(study):
        found.enqueue_trial(values)
    for number in range(1, most + 1):
        trial = found.ask()
        values = propose(trial, space=study)
        nearest = min(SIGMAS, key=lambda sigma: abs(np.log(sigma / values["prompt.sigma_ratio"])))
        value = table[values[PROMPT_FILE], nearest]
        if value >= enough:
            return number
        found.tell(trial, value)
    return most
