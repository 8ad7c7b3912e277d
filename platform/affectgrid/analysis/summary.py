"""What a study found: a record per trial, and the summary that is printed, kept and reported."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue

from affectgrid.analysis.bootstrap import Difference
from affectgrid.analysis.confirmation import Confirmation
from affectgrid.analysis.importance import Importance
from affectgrid.errors import ConfigError, Problem
from affectgrid.search.space.objective import HEADINGS, SCORE
from affectgrid.search.study.records import ParetoPoint, TrialRecord, settings, varied
from affectgrid.settings import Settings

# Each trial's own file has its history, and each confirming run's its history and moments.
_RUNS = {"runs": {"__all__": {"history", "moments"}}}
_HISTORIES: Any = {
    "trials": {"__all__": {"seeds": {"__all__": {"history"}}}},
    "confirmation": {"default": _RUNS, "winner": _RUNS},
}
SCORES = {"CCC-V": "val/ccc_valence", "CCC-A": "val/ccc_arousal", "P": "val/p"}


class StudySummary(Settings):
    """A study as it stands.

    Args:
        space: identity of the search space.
        data: fingerprint of the data.
        encoders: of each stream; ``tiny`` ones are random, and every table says so.
        rendered: whether the videos are the rendered ones, which every table says too.
        num_planned: trials that the study has when it is done; with a time budget, at most.
        trials: the finished ones, by number.
        pareto: the front, the highest P first, where the study has several objectives.
        out_of_time: whether the time budget is spent, so that no other trial begins.
        wall_s: time of the session that ended last; a study that went on after a kill has had others.
        folder: where all of it lies.
        confirmation: of the winner with fresh seeds, where it was asked for.
        importance: of the searched parameters; None for arms.
        differences: of each arm's P from the first arm's, where all its seeds are there.
    """

    name: str
    description: str = ""
    space: dict[str, JsonValue]
    data: str
    encoders: dict[str, str]
    rendered: bool = False
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

    def waits_s(self) -> list[float]:
        """For every trial but the first of its worker: from the end of the one before to its own beginning."""
        ran = sorted((trial.worker, trial.began_at, trial.duration_s) for trial in self.trials if trial.worker)
        return [
            begins - (began + duration_s)
            for (worker, began, duration_s), (next_worker, begins, _) in itertools.pairwise(ran)
            if worker == next_worker
        ]

    @classmethod
    def read(cls, folder: Path) -> StudySummary:
        """The summary of the study in `folder`, wherever it lies now. Raises ConfigError (STUDY-READ)."""
        try:
            content = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
            records = sorted(folder.glob("trials/*/trial.json"))  # with the histories, which the summary leaves out
            trials = [json.loads(record.read_text(encoding="utf-8")) for record in records]
            return cls.model_validate({**content, "folder": folder, "trials": trials})
        except (OSError, ValueError) as error:
            hint = "give a folder under OUT/studies whose search has ended once"
            problem = Problem(
                "STUDY-READ",
                where=str(folder),
                found=str(error).splitlines()[0],
                expected="the folder of a study",
                hint=hint,
            )
            raise ConfigError(problem) from error

    def write(self) -> Path:
        """Write ``summary.json`` into the study's folder, whole or not at all."""
        path = self.folder / "summary.json"
        partial = path.with_suffix(".partial")
        partial.write_text(self.model_dump_json(indent=1, exclude=_HISTORIES))
        partial.rename(path)
        return path

    # Rows for a table: heading -> text. Reporting lays them out and knows nothing of studies.

    def headline(self) -> str:
        """One line: how many trials, how they ended, how long it took."""
        parts = [f"{len(self.trials)} of {self.num_planned} trials"]
        parts += ["time budget spent"] if self.out_of_time else []
        parts += [f"{len(self.pruned)} ended early"] if self.pruned else []
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        return f"{self.name}: {', '.join(parts)}, {self.wall_s:.0f} s"

    def caveat(self) -> str:
        """What a reader of the scores must know; empty where there is nothing."""
        tiny = sorted(stream for stream, name in self.encoders.items() if name == "tiny")
        facts = ["on the rendered corpus"] if self.rendered else []
        facts += [f"with tiny {' and '.join(tiny)} encoders, whose weights are random"] if tiny else []
        return f"Measured {' '.join(facts)}: a check of the chain, not a result." if facts else ""

    def leaderboard(self, top: int = 10) -> list[dict[str, str]]:
        """The best trials, with the settings in which they differ."""
        names = varied(self.complete)
        return [
            {"trial": str(trial.number)}
            | {heading: f"{trial.score(metric):.3f}" for heading, metric in SCORES.items()}
            | {"s": f"{trial.duration_s:.1f}", "settings": settings(trial.params, names)}
            for trial in self.complete[:top]
        ]

    def pareto_table(self) -> list[dict[str, str]]:
        """The Pareto front: what each of its trials reached in every objective, and its settings."""
        records = {trial.number: trial for trial in self.trials}
        names = varied([records[point.trial] for point in self.pareto])
        return [
            {"trial": str(point.trial)}
            | {HEADINGS[metric]: f"{value:.3f}".removesuffix(".000") for metric, value in point.values.items()}
            | {"settings": settings(records[point.trial].params, names)}
            for point in self.pareto
        ]

    def cost_points(self) -> dict[str, dict[int, tuple[float, float]]]:
        """Each cost by its heading -> trial -> the cost and P, of the complete trials of a study with a front."""
        metrics = [metric for metric in (self.pareto[0].values if self.pareto else ()) if metric != SCORE]
        return {
            HEADINGS[metric]: {
                trial.number: (trial.costs[metric], trial.objective or 0.0) for trial in reversed(self.complete)
            }
            for metric in metrics
        }

    def arms_table(self) -> list[dict[str, str]]:
        """Mean and standard deviation over the seeds of every arm, and how far P lies from the first arm's."""
        rows = []
        for name, trials in self.arms.items():
            row = {"arm": name, "seeds": str(len(trials))}
            for heading, metric in SCORES.items():
                row[heading] = spread([trial.score(metric) for trial in trials])
            if self.differences:
                row[f"P - {next(iter(self.arms))}"] = _interval(self.differences.get(name))
            rows.append(row | {"s": f"{sum(trial.duration_s for trial in trials):.0f}"})
        return rows

    def failures(self) -> list[dict[str, str]]:
        """Failed trials, and confirming runs that failed, with their reasons."""
        failed = [
            {"trial": str(trial.number), "what": trial.label, "reason": trial.reason or "unknown"}
            for trial in self.failed
        ]
        return [*failed, *(self.confirmation.failures() if self.confirmation else [])]

    def confirmation_tables(self) -> list[list[dict[str, str]]]:
        """Winner and default trained with fresh seeds, and their difference; empty without a confirmation."""
        found = self.confirmation
        return [rows for rows in (found.rows(), found.difference_rows()) if rows] if found else []

    def confirmation_sentences(self) -> list[str]:
        """What the confirmation says."""
        return self.confirmation.sentences() if self.confirmation else []

    def importance_table(self) -> list[dict[str, str]]:
        """The searched parameters, the most important first; empty where there are too few trials."""
        return self.importance.rows() if self.importance else []

    def importance_note(self) -> str:
        """How to read the table, or why there is none."""
        return self.importance.note if self.importance else ""


def _interval(found: Difference | None) -> str:
    """A difference with its 95 % interval; a star where the corrected one, too, leaves out zero."""
    if found is None:
        return ""
    sure = "*" if found.low_corrected > 0 or found.high_corrected < 0 else ""
    return f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}]{sure}"


def spread(values: Sequence[float]) -> str:
    """``mean ± standard deviation`` (n - 1); the value alone where there is one."""
    if not values:
        return "–"
    mean = statistics.fmean(values)
    return f"{mean:.3f} ± {statistics.stdev(values):.3f}" if len(values) > 1 else f"{mean:.3f}"


def _value(trial: TrialRecord) -> float:
    return -math.inf if trial.objective is None else trial.objective
