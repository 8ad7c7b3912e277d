"""What one trial of a study runs, and where it keeps its files: all that a worker needs of the search, no Optuna."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from affectgrid.search.space.schema import SearchSpace, Values
from affectgrid.search.study.records import settings

IDENTITY = "space.json"  # the first file of a study: what may not change
ARM, SEED = "arm", "seed"  # keys of a proposal in a study with arms


@dataclasses.dataclass(frozen=True)
class Assignment:
    """One trial.

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


def assignment(space: SearchSpace, number: int, proposal: Values) -> Assignment:
    """The trial that the proposal with this number stands for."""
    if space.arms:
        arm = next(arm for arm in space.arms if arm.name == proposal[ARM])
        seed = int(proposal[SEED])
        return Assignment(number, f"{arm.name}, seed {seed}", dict(arm.set), (seed,), arm.name)
    return Assignment(number, settings(proposal), dict(proposal), space.seeds)


def trial_folder(study: Path, number: int) -> Path:
    """Where the trial with this number keeps its files."""
    return study / "trials" / f"{number:05d}"
