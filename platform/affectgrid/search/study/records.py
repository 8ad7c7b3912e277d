"""The results of a study: a record per trial."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, JsonValue

from affectgrid.metrics import Metrics
from affectgrid.search.space.objective import SCORE, Goal, pareto_front
from affectgrid.settings import Settings
from affectgrid.storage import WorkingCopy

RECORD = "trial.json"  # the name of a record in its trial's folder
MOMENTS = "moments.json"  # beside it: what each raw video of validation adds to CCC, by the trial's seed
State = Literal["complete", "pruned", "failed"]


class SeedRecord(Settings):
    """One training run of a trial."""

    seed: int
    history: tuple[Metrics, ...]

    @property
    def best(self) -> Metrics:
        """The epoch whose weights were kept: the first with the highest ``val/p``, or the last (``optim.keep``)."""
        last = self.history[-1]
        if last.get("val/p_best") == last["val/p"]:
            return last
        return max(self.history, key=lambda metrics: metrics["val/p"])


class TrialRecord(Settings):
    """One trial, as stored in its folder.

    `objective` is the mean over the seeds of ``val/p_best``; None where the trial failed, and `reason` says why.
    `costs` holds other measurements of the model: ``parameters``, ``latency_ms``. `worker` is the process that ran it,
    and `began_at` its start there, in seconds since 1970.
    """

    number: int
    label: str
    state: State
    params: dict[str, JsonValue]
    arm: str | None = None
    objective: float | None = None
    costs: dict[str, float] = Field({})
    reason: str | None = None
    seeds: tuple[SeedRecord, ...] = ()
    started: str = ""
    duration_s: float = 0.0
    attempts: int = 1
    worker: str = ""
    began_at: float = 0.0

    def value(self, metric: str) -> float | None:
        """The trial's value of one of the study's objectives."""
        return self.objective if metric == SCORE else self.costs.get(metric)

    def score(self, metric: str) -> float:
        """Mean over the seeds of a metric at their best epochs. NaN for a trial without a result."""
        return statistics.fmean(seed.best[metric] for seed in self.seeds) if self.seeds else math.nan


class ParetoPoint(Settings):
    """A trial of the Pareto front, and its value of each objective."""

    trial: int
    values: dict[str, float]


def front(trials: Sequence[TrialRecord], goals: Sequence[Goal]) -> tuple[ParetoPoint, ...]:
    """The Pareto front of the complete trials; empty for one objective, which has a best trial instead."""
    complete = [trial for trial in trials if trial.state == "complete"] if len(goals) > 1 else []
    metrics = [goal.metric for goal in goals]
    points = [{metric: trial.value(metric) or 0.0 for metric in metrics} for trial in complete]
    kept = pareto_front([list(point.values()) for point in points], goals)
    return tuple(ParetoPoint(trial=complete[position].number, values=points[position]) for position in kept)


def settings(params: Mapping[str, Any], names: Sequence[str] | None = None) -> str:
    """``lr 0.001, mode fixed``: those of `names` that are active, under names as short as can be."""
    names = list(params) if names is None else names
    return ", ".join(f"{short_name(name, names)} {text(params[name])}" for name in names if name in params)


def text(value: Any) -> str:
    """A parameter's value for a reader."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def short_name(name: str, names: Sequence[str]) -> str:
    """The last part of a dotted name where none of `names` shares it."""
    last = name.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in names) == 1 else name


def read_records(study: WorkingCopy) -> tuple[TrialRecord, ...]:
    """Every record of a study, by number; from a bucket those that are not here yet. Raises OSError, ValueError."""
    study.fetch_named(study.folder / "trials", (RECORD,))
    paths = sorted((study.folder / "trials").glob(f"*/{RECORD}"))
    return tuple(TrialRecord.model_validate_json(path.read_text(encoding="utf-8")) for path in paths)
