"""What a study found: its trials, best first, with what is concluded from them, as one file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue

from affectgrid import storage
from affectgrid.analysis.bootstrap import Difference
from affectgrid.analysis.confirmation import Confirmation
from affectgrid.analysis.importance import Importance
from affectgrid.errors import ConfigError, Problem
from affectgrid.search.space.objective import SCORE
from affectgrid.search.study.records import ParetoPoint, TrialRecord, read_records
from affectgrid.settings import Settings
from affectgrid.storage import WorkingCopy

SUMMARY = "summary.json"
# Each trial's own file has its history, and each confirming run's its history and moments.
_RUNS = {"runs": {"__all__": {"history", "moments"}}}
_HISTORIES: Any = {
    "trials": {"__all__": {"seeds": {"__all__": {"history"}}}},
    "confirmation": {"default": _RUNS, "winner": _RUNS},
}


class StudySummary(Settings):
    """A study in its current state.

    Args:
        space: identity of the search space.
        data: fingerprint of the data.
        encoders: of each stream; ``tiny`` ones are random, and every table says so.
        rendered: whether the videos are the rendered ones, which every table says too.
        num_folds: of which P is the mean, each by the model that has not seen it; 0: one validation split.
        num_planned: trials that the study has when it is done; with a time budget, at most.
        trials: the finished ones, by number.
        pareto: the front, the highest P first, where the study has several objectives.
        out_of_time: whether the time budget is spent, so that no other trial begins.
        wall_s: time of the session that ended last; a resumed study has had others.
        folder: where all of it lies.
        confirmation: of the winner with fresh seeds, where it was asked for.
        importance: of the searched parameters; None for arms.
        choice_optimism: of the best trial's P, for it was picked on the videos that score it; None where unknown.
        versions: of Python and of the libraries that change numbers, in the session that ended last.
        differences: of each arm's P from the first arm's, where all its seeds are there.
    """

    name: str
    description: str = ""
    space: dict[str, JsonValue]
    data: str
    encoders: dict[str, str]
    rendered: bool = False
    num_folds: int = 0
    num_planned: int
    trials: tuple[TrialRecord, ...]
    pareto: tuple[ParetoPoint, ...] = ()
    out_of_time: bool = False
    wall_s: float
    folder: Path
    commit: str = "unknown"
    command: str = ""
    confirmation: Confirmation | None = None
    importance: Importance | None = None
    choice_optimism: float | None = None
    versions: dict[str, str] = Field({})
    differences: dict[str, Difference] = Field({})

    @property
    def complete(self) -> list[TrialRecord]:
        """Trials that ran to their end, best first."""
        done = [trial for trial in self.trials if trial.state == "complete"]
        return sorted(done, key=lambda trial: (-_value(trial), trial.number))

    @property
    def failed(self) -> list[TrialRecord]:
        """Trials that failed, each with its reason."""
        return [trial for trial in self.trials if trial.state == "failed"]

    @property
    def num_failed(self) -> int:
        """Failed trials and failed confirming runs."""
        return len(self.failed) + (self.confirmation.num_failed if self.confirmation else 0)

    @property
    def pruned(self) -> list[TrialRecord]:
        """Trials that were ended early."""
        return [trial for trial in self.trials if trial.state == "pruned"]

    @property
    def best(self) -> TrialRecord | None:
        """The trial with the highest objective; the earliest of equals. None when none is complete."""
        return next(iter(self.complete), None)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.out_of_time or len(self.trials) >= self.num_planned

    @property
    def arms(self) -> dict[str, list[TrialRecord]]:
        """The complete trials of each arm, in the order of the space; empty for a sampled study."""
        names = dict.fromkeys(trial.arm for trial in self.trials if trial.arm is not None)
        return {name: [trial for trial in self.trials if trial.arm == name and trial.seeds] for name in names}

    @classmethod
    def read(cls, study: WorkingCopy | Path) -> StudySummary:
        """The summary of a study, wherever it is now. Raises ConfigError (STUDY-READ)."""
        files = study if isinstance(study, WorkingCopy) else WorkingCopy(study)
        try:
            content = json.loads(files.fetch(files.folder / SUMMARY, again=True).read_text(encoding="utf-8"))
            trials = read_records(files)  # with the histories, which the summary leaves out
            return cls.model_validate({**content, "folder": files.folder, "trials": trials})
        except (OSError, ValueError) as error:
            hint = "give a place under OUT/studies whose search has ended once"
            problem = Problem(
                "STUDY-READ",
                where=files.place.address,
                found=str(error).splitlines()[0],
                expected="the place of a study",
                hint=hint,
            )
            raise ConfigError(problem) from error

    def write(self) -> Path:
        """Write ``summary.json`` into the study's folder, whole or not at all."""
        content = self.model_dump_json(indent=1, exclude=_HISTORIES)
        return storage.write_atomic(self.folder / SUMMARY, content)

    def cost_points(self) -> dict[str, dict[int, tuple[float, float]]]:
        """Each cost by its metric -> trial -> the cost and P, of the complete trials of a study with a front."""
        metrics = [metric for metric in (self.pareto[0].values if self.pareto else ()) if metric != SCORE]
        return {
            metric: {trial.number: (trial.costs[metric], trial.objective or 0.0) for trial in reversed(self.complete)}
            for metric in metrics
        }


def _value(trial: TrialRecord) -> float:
    return -math.inf if trial.objective is None else trial.objective
