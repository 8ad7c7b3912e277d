"""What each searched parameter did to P, as points: one for each complete trial in which the parameter was active."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from affectgrid.search.space.schema import PROMPT_FILE, SearchSpace
from affectgrid.search.study.records import TrialRecord, text

SIGMA = "prompt.sigma_ratio"
MIN_POINTS = 5  # fewer show nothing but themselves


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
