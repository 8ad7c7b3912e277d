"""The objective of a study: the highest P, or a Pareto front of P against the cost of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from affectgrid.settings import Settings

SCORE = "val/p_best"  # mean over the seeds of each run's best validation P
PARAMETERS, LATENCY_MS = "parameters", "latency_ms"
HEADINGS = {SCORE: "P", PARAMETERS: "parameters", LATENCY_MS: "latency ms"}


class Goal(Settings):
    """One objective: ``maximize: val/p_best`` or ``minimize: parameters``."""

    maximize: Literal["val/p_best"] | None = Field(None, description="P on the validation split")
    minimize: Literal["parameters", "latency_ms"] | None = Field(
        None, description="learned numbers of the model, or the milliseconds that one window takes it"
    )

    @model_validator(mode="after")
    def _check(self) -> Goal:
        if (self.maximize is None) == (self.minimize is None):
            raise ValueError("give either maximize or minimize")
        return self

    @property
    def metric(self) -> str:
        """The name of the metric."""
        return self.maximize or self.minimize or ""

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """As Optuna spells it."""
        return "maximize" if self.maximize else "minimize"

    @property
    def heading(self) -> str:
        """The heading of a column."""
        return HEADINGS[self.metric]


BEST_SCORE = (Goal(maximize="val/p_best"),)


def pareto_front(values: Sequence[Sequence[float]], goals: Sequence[Goal]) -> list[int]:
    """Positions of the rows that no other row beats, the best in the first goal first.

    A row beats another where it is at least as good in every goal and better in one, so of equal rows all stay.

    Args:
        values: a row for each trial, a number for each goal.
        goals: which way is better.
    """
    signs = [1.0 if goal.maximize else -1.0 for goal in goals]
    rows = [tuple(sign * value for sign, value in zip(signs, row, strict=True)) for row in values]
    kept = [position for position, row in enumerate(rows) if not any(_beats(other, row) for other in rows)]
    return sorted(kept, key=lambda position: (tuple(-value for value in rows[position]), position))


def _beats(row: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return row != other and all(mine >= theirs for mine, theirs in zip(row, other, strict=True))
