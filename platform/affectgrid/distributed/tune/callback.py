"""Tune's callback: tells the ledger, MLflow and the display how trials progress and end."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune as ray_tune
from ray.tune.experiment import Trial

from affectgrid.distributed.tune.mlflow_logger import StudyLog
from affectgrid.distributed.tune.trial import OBJECTIVE
from affectgrid.errors import ConfigError, Problem
from affectgrid.metrics import Metrics
from affectgrid.reporting.study.live import Ended, SearchDisplay
from affectgrid.search.study.assignment import Assignment, assignment
from affectgrid.search.study.ledger import Ledger
from affectgrid.search.study.records import SeedRecord, State, TrialRecord

NUM_RETRIES = 2  # of a trial whose process died; an exception raised by the trial is not retried


class Recorder(ray_tune.Callback):  # type: ignore[misc]
    """Tells the ledger, MLflow and the display how trials progress and how they end."""

    def __init__(self, ledger: Ledger, log: StudyLog, display: SearchDisplay) -> None:
        self.ledger, self.log, self.display = ledger, log, display
        self.running: dict[int, _Running] = {}

    def __reduce__(self) -> tuple[type[ray_tune.Callback], tuple[()]]:
        return ray_tune.Callback, ()  # Tune pickles its callbacks for a restore that never happens

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number = trial.config["number"]
        again = self.running.get(number)
        running = _Running(assignment(self.ledger.space, number, trial.config["proposal"]))
        if again is not None:  # its process died
            running.attempts, running.began = again.attempts + 1, again.began
        self.running[number] = running
        assigned = running.assigned
        epochs = self.ledger.space.resolve(assigned.values, seed=0).optim.epochs
        self.display.started(number, assigned.label, epochs * len(assigned.seeds))
        self.log.started(assigned)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        number = trial.config["number"]
        for seed, metrics in result["rows"]:
            epochs = self.running[number].histories.setdefault(seed, {})
            if metrics["epoch"] not in epochs:  # several workers report epoch by epoch, and once more as a whole
                epochs[metrics["epoch"]] = metrics
                self.log.progressed(number, seed, metrics)
        self.display.progressed(number, result["epochs"], result[OBJECTIVE])

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        result = trial.last_result or {}
        if "refused" in result:  # refused by its node, which would refuse the others too: it stays interrupted
            raise ConfigError(*(Problem(**problem) for problem in result["refused"]))
        if "failure" in result:
            self._end(trial, "failed", reason=result["failure"])
        elif OBJECTIVE in result:  # otherwise it never ran
            state: State = "complete" if result.get("finished") else "pruned"
            self._end(trial, state, objective=result[OBJECTIVE], costs=result.get("costs"))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial's process died, and Tune gives it up.

        Tune does so at once, without a retry, where the process was being given to the trial: a node that is lost takes
        with it what was just to begin there. Such a trial stays interrupted, and the search runs it again.
        """
        running = self.running.get(trial.config["number"])
        if running is not None and running.attempts > NUM_RETRIES:
            self._end(trial, "failed", reason=_death(trial))

    def _end(
        self,
        trial: Trial,
        state: State,
        *,
        objective: float | None = None,
        costs: Mapping[str, float] | None = None,
        reason: str | None = None,
    ) -> None:
        running = self.running.pop(trial.config["number"], None)
        if running is None:
            return
        last = trial.last_result or {}
        duration_s = round(last.get("duration_s", time.monotonic() - running.began), 3)
        record = running.record(state, objective, reason, duration_s)
        where = {name: last[name] for name in ("worker", "began_at") if name in last}
        record = self.ledger.finish(record.model_copy(update={"costs": dict(costs or {}), **where}))
        self.log.finished(record)
        self.display.finished(ended(record))


class _Running:
    """A trial that has started and not ended."""

    def __init__(self, assigned: Assignment) -> None:
        self.assigned = assigned
        self.attempts = 1
        self.began = time.monotonic()
        self.started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        self.histories: dict[int, dict[float, Metrics]] = {}

    def record(self, state: State, objective: float | None, reason: str | None, duration_s: float) -> TrialRecord:
        """The record that the ledger keeps."""
        return TrialRecord(
            number=self.assigned.number,
            label=self.assigned.label,
            state=state,
            params=self.assigned.values,
            arm=self.assigned.arm,
            objective=objective,
            reason=reason,
            seeds=tuple(SeedRecord(seed=seed, history=_in_order(rows)) for seed, rows in self.histories.items()),
            started=self.started,
            duration_s=duration_s,
            attempts=self.attempts,
        )


def _in_order(epochs: dict[float, Metrics]) -> tuple[Metrics, ...]:
    return tuple(metrics for _, metrics in sorted(epochs.items()))


def ended(record: TrialRecord) -> Ended:
    """What the display shows for a trial that ended."""
    score = None if record.state == "failed" else record.objective
    return Ended(record.number, record.label, record.state, score, record.duration_s, record.reason, record.costs)


def _death(trial: Trial) -> str:
    """Why a trial's process ended the last time, in one line.

    From this machine's own file: Tune's `get_error` asks the bucket, which may not answer just then.
    """
    path = Path(trial.error_file) if trial.error_file else None
    text = path.read_text() if path is not None and path.exists() else ""
    lines = [line.strip() for line in text.rpartition("Failure #")[2].splitlines()[1:] if line.strip()]
    return f"{lines[0] if lines else 'its process died'} (tried {NUM_RETRIES + 1} times)"
