"""A study in MLflow: a run for the study, a child for each trial, a grandchild for each seed where there are several.

Only the driver logs. A background thread writes, so that no worker waits for a database. What MLflow has is noted in
the study's place, once it really has it and not while it waits for a server that is away: the next session logs the
rest again from the study's own records, even where the machine and what waited on it are gone.
"""

from __future__ import annotations

import functools
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from affectgrid.credentials import without_credentials
from affectgrid.errors import TrackingError
from affectgrid.metrics import Metrics
from affectgrid.reporting.study.notes import SORT_BY, columns, experiment_note, run_name
from affectgrid.search.space.schema import SearchSpace
from affectgrid.search.study.assignment import Assignment
from affectgrid.search.study.ledger import LOGGED, Ledger
from affectgrid.search.study.records import TrialRecord
from affectgrid.settings import flatten
from affectgrid.storage import write_atomic
from affectgrid.tracking import NOTE, DataSet, Point, RunLog, Tracker
from affectgrid.training.manifest import Manifest

_log = logging.getLogger(__name__)
_FLUSH_EVERY_S = 15.0  # maximum age of a running trial's curve
_BEHIND_S = 0.2  # how long records may wait: meanwhile the worker that reported them gets its next trial
_STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}


_Task = tuple[int | None, Callable[[], object]]  # of a trial, or of the study


class StudyLog:
    """Writes records in order on a background thread. `close` waits for it."""

    def __init__(self, tracker: Tracker, ledger: Ledger, manifest: Manifest, data_sets: Sequence[DataSet] = ()) -> None:
        self.tracker, self.ledger, self.space = tracker, ledger, ledger.space
        self.tags = manifest.tags()
        planned = ledger.num_planned or f"as many as fit into {self.space.time_budget}"
        self.run = tracker.study(self.space.name, self.space.identity(), {**self.tags, "trials": planned})
        self.data_sets = list(data_sets)
        self.run.view(columns([*self.space.space]), SORT_BY, experiment_note())
        self.run.inputs(self.data_sets)
        self._known = self.run.marks()
        self.trials: dict[int, RunLog] = {}
        self._seed_runs: dict[tuple[int, int], RunLog] = {}
        self._unsent: dict[int, list[tuple[int, Point]]] = {}
        self._sent_at: dict[int, float] = {}
        self._unmarked: list[tuple[Path, str]] = []
        self._lost: set[int | None] = set()  # trials of which a part could not be logged; None: the study
        self._refused: TrackingError | None = None
        self._queue: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()
        self._catch_up()

    def started(self, assigned: Assignment, began_at: float | None = None) -> None:
        """A trial begins, or began then: its run, with every parameter of its first seed's configuration."""
        self._unsent[assigned.number] = []
        self._sent_at[assigned.number] = time.monotonic()
        self._queue.put((assigned.number, lambda: self._open(assigned, began_at)))

    def progressed(self, number: int, seed: int, metrics: Metrics, at: float | None = None) -> None:
        """An epoch is done, or was done then."""
        self._unsent.setdefault(number, []).append((seed, epoch_point(metrics, at)))
        if time.monotonic() - self._sent_at.get(number, 0.0) > _FLUSH_EVERY_S:
            self._flush(number)

    def finished(self, record: TrialRecord) -> None:
        """A trial ended."""
        self._flush(record.number)
        self._queue.put((record.number, lambda: self._close_trial(record)))

    def artifacts(self, files: Sequence[Path], folder: str, *, trial: int | None = None) -> None:
        """Keep files with the study, or with one of its trials."""
        self._queue.put((trial, lambda: self._keep(files, folder, trial)))

    def model(self, package: Path, metrics: Mapping[str, float], *, trial: int, register: str | None = None) -> None:
        """A trial's model as MLflow loads and registers it, see `RunLog.model`."""
        name = f"{self.space.name} trial {trial}"
        work = functools.partial(RunLog.model, package=package, metrics=metrics, name=name, register=register)
        self._queue.put((trial, lambda: self._reopened(trial, work)))

    def summary(self, metrics: Mapping[str, float], tags: Mapping[str, object]) -> None:
        """The results of the study: those of each trial by its number, the best so far, and last the study's own."""
        points = _course([record for _, record in sorted(self.ledger.records.items())])
        last = Point(points[-1].step + 1 if points else 0, metrics)
        self._queue.put((None, lambda: self.run.points([*points, last], once=True)))
        self._queue.put((None, lambda: self.run.tags(tags)))

    def note(self, text: str, *, trial: int | None = None) -> None:
        """What the page of the study, or of one of its trials, says, in Markdown."""
        self._queue.put((trial, lambda: self._reopened(trial, lambda run: run.tags({NOTE: text}))))

    @property
    def complete(self) -> bool:
        """Whether all that was logged in this session is in MLflow or waits for it. For tasks on the log's thread."""
        return not self._lost

    def mark(self, path: Path, run: RunLog, name: str = "") -> None:
        """Mark the run, and write the mark into a file once MLflow has it, and so all that was logged before.

        For tasks on the log's own thread. `name` tells several marks of a run apart.
        """
        self._unmarked.append((path, run.mark(name)))

    def has(self, path: Path) -> bool:
        """Whether MLflow has what this mark stands for: a mark of a database that was lost since does not count."""
        return path.exists() and (self._known is None or path.read_text() in self._known)

    def later(self, task: Callable[[], None]) -> None:
        """Write something else, after everything queued before it."""
        self._queue.put((None, task))

    def close(self, status: str) -> None:
        """Write what is left and close the study's run. Raises TrackingError where MLflow refused this client."""
        self._closing.set()
        self._queue.put((None, lambda: self.run.finish(status)))  # type: ignore[arg-type]
        self._queue.put((None, self.run.deliver))  # the server may be back since the last attempt
        self._queue.put(None)
        self._thread.join()
        if self._refused is not None:
            raise self._refused
        if not self.run.delivered:
            uri = without_credentials(self.tracker.uri)
            _log.warning("MLflow at %s lacks a part of the log; when it is back, the same command sends it", uri)

    def _work(self) -> None:
        while (task := self._next()) is not None:
            if self._refused is not None:
                continue
            trial, work = task
            try:
                work()
                self._write_marks()
            except TrackingError as error:  # it would be refused again and again
                self._refused = error
                _log.error("%s; the study goes on, and the same command logs the rest", error)
            except Exception:  # the results are in the study's folder: losing a page must not lose the search
                self._lost.add(trial)
                _log.exception("could not write to MLflow at %s", without_credentials(self.tracker.uri))

    def _write_marks(self) -> None:
        while self._unmarked and self.run.delivered:
            self.ledger.files.put(write_atomic(*self._unmarked[0]))
            del self._unmarked[0]

    def _next(self) -> _Task | None:
        """Wait for a task, and, after a pause, a moment longer: right after a trial's end a worker needs the driver."""
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            task = self._queue.get()
            if not self._closing.is_set():
                time.sleep(_BEHIND_S)
            return task

    def _catch_up(self) -> None:
        """Trials that ended and that MLflow lacks: a kill came in between, it was away, or its database was lost."""
        for record in self.ledger.records.values():
            if not self.has(self._marker(record.number)):
                self.started(_assignment(self.space, record), record.began_at or None)
                epochs = [(seed.seed, metrics) for seed in record.seeds for metrics in seed.history]
                for number, (seed, metrics) in enumerate(epochs, 1):
                    at = record.began_at + record.duration_s * number / len(epochs) if record.began_at else None
                    self.progressed(record.number, seed, metrics, at)
                self.finished(record)

    def _open(self, assigned: Assignment, began_at: float | None) -> None:
        config = self.space.resolve(assigned.values, seed=assigned.seeds[0])
        self._seed_runs = {key: run for key, run in self._seed_runs.items() if key[0] != assigned.number}  # of a try
        facts = {"trial": assigned.number, "label": assigned.label, "searched": ", ".join(assigned.values)}
        self.trials[assigned.number] = self.tracker.child(
            self.run,
            f"trial-{assigned.number:05d}",
            run_name(assigned.number, assigned.label, assigned.values, arm=assigned.arm),
            params=flatten(config),
            tags={**self.tags, **facts, **({"arm": assigned.arm} if assigned.arm else {})},
            new=self.run.fresh and assigned.number not in self.trials,
            time_ms=None if began_at is None else int(1000 * began_at),
        )
        self.trials[assigned.number].inputs(self.data_sets)

    def _flush(self, number: int) -> None:
        points, self._unsent[number] = self._unsent.get(number, []), []
        self._sent_at[number] = time.monotonic()
        if points:
            self._queue.put((number, lambda: self._write(number, points)))

    def _write(self, number: int, points: Sequence[tuple[int, Point]]) -> None:
        for seed in dict.fromkeys(seed for seed, _ in points):
            self._run_of(number, seed).points([point for other, point in points if other == seed])

    def _run_of(self, number: int, seed: int) -> RunLog:
        """The trial's run, or with several seeds the seed's."""
        if len(self.space.seeds) == 1 or self.space.arms:
            return self.trials[number]
        key = (number, seed)
        if key not in self._seed_runs:
            trial = self.trials[number]
            self._seed_runs[key] = self.tracker.child(
                trial, f"seed-{seed}", f"seed {seed}", params={"seed": seed}, new=trial.fresh
            )
        return self._seed_runs[key]

    def _close_trial(self, record: TrialRecord) -> None:
        run = self.trials[record.number]
        last: list[Point] = []
        if record.seeds:
            names = sorted(record.seeds[0].best.keys() - {"epoch", "lr", "val/p_best"})
            best = {f"best/{name.rpartition('/')[2]}": record.score(name) for name in names if name.startswith("val/")}
            epoch = int(record.seeds[0].best["epoch"])
            last = [Point(epoch, {**best, **record.costs, "duration_s": record.duration_s})]
        run.write(last, {"state": record.state, **({"reason": record.reason} if record.reason else {})})
        status: Any = _STATUS[record.state]
        ended = int(1000 * (record.began_at + record.duration_s)) if record.began_at else None
        for (number, _seed), seed_run in self._seed_runs.items():
            if number == record.number:
                seed_run.finish(status, time_ms=ended)
        run.finish(status, name=_name(record), time_ms=ended)
        if record.number not in self._lost:
            self.mark(self._marker(record.number), run)

    def _keep(self, files: Sequence[Path], folder: str, trial: int | None) -> None:
        def keep(run: RunLog) -> None:
            for path in files:
                run.artifact(path, folder)

        self._reopened(trial, keep)

    def _reopened(self, trial: int | None, work: Callable[[RunLog], None]) -> None:
        """Log more to the study's run, or to that of a trial that has ended, perhaps in an earlier session."""
        if trial is None:
            return work(self.run)
        record = self.ledger.records[trial]
        run = self.trials.get(trial) or self.tracker.child(self.run, f"trial-{trial:05d}", _name(record))
        work(run)
        if trial not in self.trials:
            ended = int(1000 * (record.began_at + record.duration_s)) if record.began_at else None
            run.finish(_STATUS[record.state], time_ms=ended)  # type: ignore[arg-type]

    def _marker(self, number: int) -> Path:
        return self.ledger.folder_of(number) / LOGGED


def _assignment(space: SearchSpace, record: TrialRecord) -> Assignment:
    seeds = tuple(seed.seed for seed in record.seeds) or space.seeds
    return Assignment(record.number, record.label, dict(record.params), seeds, record.arm)


def _name(record: TrialRecord) -> str:
    p = record.score("val/p") if record.seeds and record.state != "failed" else None
    return run_name(record.number, record.label, record.params, arm=record.arm, p=p)


def _course(records: Sequence[TrialRecord]) -> list[Point]:
    """Scores of each complete trial, and the best P up to it, with its number as the step and its end as the time."""
    points, best = [], -math.inf
    for record in records:
        if record.state == "complete" and record.objective is not None:
            best = max(best, record.objective)
            scores = {f"trial/{name}": record.score(f"val/{name}") for name in ("p", "ccc_valence", "ccc_arousal")}
            at = record.began_at + record.duration_s
            points.append(_point(record.number, {**scores, "best/p": best}, at if record.began_at else None))
    return points


def epoch_point(metrics: Metrics, at: float | None = None) -> Point:
    """An epoch's metrics, known now or at a time; the epoch number is their step, not one of them."""
    return _point(int(metrics["epoch"]), {name: value for name, value in metrics.items() if name != "epoch"}, at)


def _point(step: int, values: Mapping[str, float], at: float | None) -> Point:
    return Point(step, values) if at is None else Point(step, values, int(1000 * at))
