"""Between a search space and Optuna: distributions, samplers, and what a proposal means."""

from __future__ import annotations

import dataclasses
import functools
import json
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import optuna

from affectgrid.search.schema import Dimension, SearchSpace, Values
from affectgrid.search.summary import settings

ARM, SEED = "arm", "seed"
_SEED_STRIDE = 1_000_003  # prime, so that no two studies' samplers meet after some resumes


class Suggests(Protocol):
    """What is used of an Optuna trial."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Assignment:
    """What one trial does.

    Args:
        number: the trial's, from 0, the same in Optuna, in its folder and in MLflow.
        label: its arm and seed, or the searched values.
        values: dotted name -> value, beside the constants.
        seeds: of its runs.
        arm: name of the arm; None where values are sampled.
    """

    number: int
    label: str
    values: Values
    seeds: tuple[int, ...]
    arm: str | None = None


def proposer(space: SearchSpace) -> Callable[[Suggests], Values]:
    """Optuna's define-by-run function of a space. It can be pickled."""
    return functools.partial(propose, space=space)


def propose(trial: Suggests, *, space: SearchSpace) -> Values:
    """Ask for the value of every active parameter; with arms, for an arm and a seed."""
    if space.arms:
        arm = trial.suggest_categorical(ARM, [arm.name for arm in space.arms])
        return {ARM: arm, SEED: trial.suggest_categorical(SEED, list(space.seeds))}
    values: Values = {}
    for name, dimension in space.active_order():
        if dimension.condition is None or dimension.condition.holds({**space.constants, **values}):
            values[name] = _suggest(trial, name, dimension)
    return values


def assignment(space: SearchSpace, number: int, proposal: Values) -> Assignment:
    """What the proposal with this number asks for."""
    if space.arms:
        arm = next(arm for arm in space.arms if arm.name == proposal[ARM])
        seed = int(proposal[SEED])
        return Assignment(number, f"{arm.name}, seed {seed}", dict(arm.set), (seed,), arm.name)
    return Assignment(number, settings(proposal), dict(proposal), space.seeds)


def first_proposals(space: SearchSpace) -> list[Values]:
    """What is tried before the sampler has a say, in Optuna's terms: the points, or every arm with every seed."""
    if space.arms:
        return [{ARM: arm.name, SEED: seed} for seed in space.seeds for arm in space.arms]
    return [{name: _encode(value) for name, value in point.items()} for point in space.first_points()]


def make_sampler(space: SearchSpace, *, num_asked: int) -> optuna.samplers.BaseSampler:
    """The sampler. One that goes on after `num_asked` proposals must not repeat its first random ones."""
    seed = (space.sampler_seed * _SEED_STRIDE + num_asked) % 2**32
    if space.arms or space.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=max(4, min(10, space.trials // 4)),  # of 12 trials, ten at random would be no search
            multivariate=True,
            group=any(dimension.when for dimension in space.space.values()),  # conditional parameters
        )


def _suggest(trial: Suggests, name: str, dimension: Dimension) -> Any:
    if dimension.float_ is not None:
        return trial.suggest_float(name, *dimension.float_, step=dimension.step, log=dimension.log)
    if dimension.int_ is not None:
        return trial.suggest_int(name, *dimension.int_, step=int(dimension.step or 1), log=dimension.log)
    assert dimension.choice is not None
    encoded = [_encode(value) for value in dimension.choice]
    return dimension.choice[encoded.index(trial.suggest_categorical(name, encoded))]


def _encode(value: Any) -> Any:
    """Optuna's categories are scalars; a list travels as JSON."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value
