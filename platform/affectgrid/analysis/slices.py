"""What each searched parameter did to P, as points: one for each complete trial in which the parameter was active."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from affectgrid.search.space.dimension import Dimension
from affectgrid.search.space.schema import PROMPT_FILE, SearchSpace
from affectgrid.search.study.records import TrialRecord, text

SIGMA = "prompt.sigma_ratio"
MIN_POINTS = 5  # fewer show nothing but themselves
_ABSENT = object()  # None may be a choice


@dataclasses.dataclass(frozen=True)
class Effect:
    """One parameter.

    Args:
        name: dotted.
        values: of each trial: numbers, or texts where it is a choice.
        scores: P of each trial.
        log: whether it was searched on a log scale.
    """

    name: str
    values: tuple[float, ...] | tuple[str, ...]
    scores: tuple[float, ...]
    log: bool = False


@dataclasses.dataclass(frozen=True)
class SigmaByGrid:
    """P over kernel sigma and region grid: a point for each complete trial with a prompt loss."""

    sigma: tuple[float, ...]
    grid: tuple[str, ...]
    scores: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Axis:
    """One parameter of all complete trials.

    Args:
        name: dotted.
        places: of each trial in [0, 1], from the lowest to the highest value of the space; None: not active.
        ticks: some values with their places.
    """

    name: str
    places: tuple[float | None, ...]
    ticks: tuple[tuple[float, str], ...]


@dataclasses.dataclass(frozen=True)
class Parallel:
    """Every searched parameter of every complete trial, and its P."""

    axes: tuple[Axis, ...]
    scores: tuple[float, ...]


def parallel(space: SearchSpace, trials: Sequence[TrialRecord]) -> Parallel:
    """All that was searched, in the order of the space."""
    counted = [trial for trial in trials if _counts(trial)]
    axes = tuple(
        _axis(name, dimension, [trial.params.get(name, _ABSENT) for trial in counted])
        for name, dimension in space.space.items()
    )
    return Parallel(axes, tuple(float(trial.objective or 0.0) for trial in counted))


def _axis(name: str, dimension: Dimension, values: Sequence[Any]) -> Axis:
    if dimension.choice is not None:
        texts = [text(choice) for choice in dimension.choice]
        step = 1 / max(1, len(texts) - 1)
        places = {one: number * step for number, one in enumerate(texts)}
        found = tuple(None if value is _ABSENT else places[text(value)] for value in values)
        return Axis(name, found, tuple((place, one) for one, place in places.items()))
    low, high = dimension.bounds or (0.0, 0.0)
    scale = math.log if dimension.log else float
    span = scale(high) - scale(low) or 1.0
    found = tuple(None if value is _ABSENT else (scale(float(value)) - scale(low)) / span for value in values)
    middle = math.sqrt(low * high) if dimension.log else (low + high) / 2
    shown = (low, middle, high) if dimension.int_ is None or middle == int(middle) else (low, high)
    ticks = ((value, (scale(value) - scale(low)) / span) for value in dict.fromkeys(shown))
    return Axis(name, found, tuple((place, f"{value:.2g}") for value, place in ticks))


def effects(space: SearchSpace, trials: Sequence[TrialRecord]) -> list[Effect]:
    """Every parameter that took several values in enough complete trials, in the order of the space."""
    found = []
    for name, dimension in space.space.items():
        active = [trial for trial in trials if name in trial.params and _counts(trial)]
        values = [trial.params[name] for trial in active]
        if len(active) < MIN_POINTS or len({text(value) for value in values}) < 2:
            continue
        number = dimension.choice is None
        shown = tuple(float(str(value)) for value in values) if number else tuple(text(value) for value in values)
        scores = tuple(float(trial.objective or 0.0) for trial in active)
        found.append(Effect(name, shown, scores, dimension.log))
    return found


def sigma_by_grid(space: SearchSpace, trials: Sequence[TrialRecord]) -> SigmaByGrid | None:
    """The points, as many as there are; None where the two are not searched together."""
    if SIGMA not in space.space or PROMPT_FILE not in space.space:
        return None
    both = [trial for trial in trials if _counts(trial) and {SIGMA, PROMPT_FILE} <= trial.params.keys()]
    return SigmaByGrid(
        tuple(float(str(trial.params[SIGMA])) for trial in both),
        tuple(str(trial.params[PROMPT_FILE]) for trial in both),
        tuple(float(trial.objective or 0.0) for trial in both),
    )


def _counts(trial: TrialRecord) -> bool:
    return trial.state == "complete" and trial.objective is not None
