"""The ledger of a study: its proposals, and how each ended. It survives a kill at any instruction.

Optuna's journal holds every proposal; a file in the trial's folder holds how the trial ended. The file is written
first and the journal afterwards, so a trial is finished exactly when its file exists, and the journal catches up when
the study is opened again. A proposal without a file was interrupted: it runs again under its own number. So no trial
is lost, none runs under two numbers, and none is left RUNNING.

In a bucket the files and the proposals are objects, and the journal is this node's own: it is made again from them
whenever the study is opened, so a study resumes on another head.

Trials of older studies that the sampler may learn from are in a second study of the same journal: they do not change
the numbers, the count or the best trial of this one.
"""

from __future__ import annotations

import _thread
import contextlib
import json
import math
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from affectgrid.errors import ConfigError, Problem
from affectgrid.search.space.budget import busy_s
from affectgrid.search.space.objective import SCORE
from affectgrid.search.space.schema import SearchSpace
from affectgrid.search.study.assignment import IDENTITY, trial_folder
from affectgrid.search.study.journal import STATES, create_study, intermediate_values, open_journal
from affectgrid.search.study.records import RECORD, TrialRecord, read_records
from affectgrid.search.study.warm_start import WARM_START, PriorTrials
from affectgrid.settings import flatten
from affectgrid.storage import Storage, write_json
from affectgrid.storage.lease import LeaseTakenError, exclusive
from affectgrid.storage.working_copy import WorkingCopy
from affectgrid.training.config import METHOD_VERSION

JOURNAL = "study.journal"
_PROPOSAL = "proposal.json"
LOGGED = "logged"  # the name of a file beside a record that says that the experiment log has it


class Ledger:
    """An open study. `open_ledger` makes it."""

    def __init__(self, files: WorkingCopy, space: SearchSpace) -> None:
        self.files, self.folder, self.space = files, files.folder, space
        self.study = optuna.load_study(study_name=space.name, storage=open_journal(self.folder / JOURNAL))
        self.records = {record.number: record for record in read_records(files)}
        self._progress = _read_progress(self.folder)
        self._worked_before_s: float = max(
            self._progress["spent_s"],
            busy_s((record.started, record.duration_s) for record in self.records.values() if record.started),
        )
        self._clock_began: float | None = None
        for trial in self._running():
            if trial.number in self.records:
                self._tell(self.records[trial.number])

    @property
    def num_asked(self) -> int:
        """Number of proposals made so far; those waiting in the queue do not count."""
        return sum(trial.state != TrialState.WAITING for trial in self._trials())

    @property
    def num_planned(self) -> int | None:
        """Trials that the study has when it is done, with those that `extend` added; None: only the time limits it."""
        return None if self.space.num_trials is None else max(self.space.num_trials, self._progress["trials"])

    @property
    def num_left(self) -> int | None:
        """Trials that still have to end; None where only the time limits them."""
        return None if self.num_planned is None else max(0, self.num_planned - len(self.records))

    @property
    def time_left_s(self) -> float | None:
        """What is left of the time budget over all sessions; None without one. Gaps between sessions are free."""
        if self.space.time_budget_s is None:
            return None
        now_s = 0.0 if self._clock_began is None else time.monotonic() - self._clock_began
        return max(0.0, self.space.time_budget_s - self._worked_before_s - now_s)

    @property
    def out_of_time(self) -> bool:
        """Whether the time budget is spent."""
        return self.time_left_s is not None and self.time_left_s <= 0

    @property
    def done(self) -> bool:
        """Whether nothing is left to do: no trial was interrupted, and no other may begin."""
        return self.num_left == 0 or (self.out_of_time and not self._interrupted())

    def start_clock(self) -> None:
        """Start the session's clock, when it asks for its first trial. A second call changes nothing."""
        self._clock_began = time.monotonic() if self._clock_began is None else self._clock_began

    def note_time_spent(self) -> None:
        """Record that the whole time budget is spent, so that a later session has none left."""
        self._note_progress(spent_s=max(self._progress["spent_s"], self.space.time_budget_s or 0.0))

    def extend(self, num_trials: int) -> None:
        """Add trials to a finished study; an unfinished one resumes unchanged, so the same command can be repeated.

        The extension counts as unfinished until `settle`, so that a kill after the last trial does not add it again.
        Raises ConfigError (STUDY-EXTEND) where the number of trials is not what limits the study.
        """
        if not self.done or self._progress["extending"]:
            return
        limit = "its time budget" if self.out_of_time or self.num_planned is None else ""
        limit = "its list of arms" if self.space.arms else "its grid" if self.space.sampler == "grid" else limit
        if limit:
            found, hint = f"the study ends with {limit}", "give a larger time budget, or another space and name"
            where, expected = str(self.folder), "one that ends with its trials"
            raise ConfigError(Problem("STUDY-EXTEND", where=where, found=found, expected=expected, hint=hint))
        self._note_progress(trials=(self.num_planned or 0) + num_trials, extending=True)

    def settle(self) -> None:
        """Record that the session has ended normally."""
        if self._progress["extending"]:
            self._note_progress(extending=False)

    def learn(self, prior_trials: PriorTrials) -> None:
        """Keep trials of another study for the sampler; those that are here already are not added again."""
        name = self._prior_trials_name
        directions = [goal.direction for goal in self.space.objective]
        storage = self.study._storage
        study = optuna.create_study(study_name=name, storage=storage, directions=directions, load_if_exists=True)
        known = [trial.user_attrs[WARM_START] for trial in study.get_trials(deepcopy=False)]
        for trial in prior_trials.trials:
            if trial.user_attrs[WARM_START] not in known:
                study.add_trial(trial)

    @property
    def prior_trials(self) -> list[Any]:
        """Trials of other studies that the sampler may learn from."""
        storage = self.study._storage
        if self._prior_trials_name not in optuna.get_all_study_names(storage):
            return []
        return list(optuna.load_study(study_name=self._prior_trials_name, storage=storage).get_trials(deepcopy=False))

    @property
    def _prior_trials_name(self) -> str:
        return f"{self.space.name}: warm start"

    def interrupted_trials(self) -> list[optuna.Trial]:
        """Proposals whose trial was interrupted; each runs again under its number and with its values."""
        return [optuna.Trial(self.study, trial._trial_id) for trial in self._interrupted()]

    def folder_of(self, number: int) -> Path:
        """Where a trial keeps its files."""
        return trial_folder(self.folder, number)

    def propose(self, number: int, proposal: Mapping[str, Any]) -> None:
        """Store a proposal where another node may have to run it again."""
        path = self.folder_of(number) / _PROPOSAL
        if not self.files.place.is_local and not path.exists():
            self.files.put(write_json(path, dict(proposal)))

    def finish(self, record: TrialRecord) -> TrialRecord:
        """Record how a trial ended, first in its file, then in the journal. A second end of a trial changes nothing."""
        if record.number in self.records:
            return self.records[record.number]
        for goal in self.space.objective if record.state != "failed" else ():
            value = record.value(goal.metric)
            if not math.isfinite(_number(value)):  # Optuna would refuse it and leave the trial RUNNING
                reason = f"{'the objective' if goal.metric == SCORE else goal.metric} is {value}"
                record = record.model_copy(update={"state": "failed", "objective": None, "reason": reason})
        self.files.put(write_json(self.folder_of(record.number) / RECORD, record.model_dump(mode="json")))
        self.records[record.number] = record
        self._tell(record)
        return record

    def _tell(self, record: TrialRecord) -> None:
        storage = self.study._storage
        trial_id = storage.get_trial_id_from_study_id_trial_number(self.study._study_id, record.number)
        if record.reason:
            storage.set_trial_user_attr(trial_id, "reason", record.reason)
        for epochs, value in intermediate_values(self.space, record).items():
            storage.set_trial_intermediate_value(trial_id, epochs, value)
        values = [record.value(goal.metric) for goal in self.space.objective] if record.state == "complete" else None
        self.study.tell(record.number, values, state=STATES[record.state], skip_if_finished=True)

    def _note_progress(self, **changes: float) -> None:
        self._progress |= changes
        self.files.put(write_json(self.folder / "progress.json", self._progress))

    def _trials(self) -> list[Any]:
        return list(self.study.get_trials(deepcopy=False))

    def _running(self) -> list[Any]:
        return [trial for trial in self._trials() if trial.state == TrialState.RUNNING]

    def _interrupted(self) -> list[Any]:
        return [trial for trial in self._running() if trial.number not in self.records]


@contextlib.contextmanager
def open_ledger(place: Storage | Path, space: SearchSpace, *, data: str) -> Iterator[Ledger]:
    """Start the study at `place`, or resume it.

    Raises ConfigError: STUDY-BUSY while another process runs it; STUDY-CHANGED, with each difference, where the space
    or the data (its fingerprint) is not the one that it started with; STUDY-STORAGE where the folder is not writable.
    StoreError where a bucket cannot be.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    files = WorkingCopy(place)
    lost = threading.Event()

    def stop() -> None:
        lost.set()
        _thread.interrupt_main()

    with contextlib.ExitStack() as stack:
        try:
            (files.folder / "trials").mkdir(parents=True, exist_ok=True)
            name = "lock" if files.place.is_local else "lease.json"
            stack.enter_context(exclusive(files.place, name, on_lost=stop))
        except OSError as error:
            expected, hint = "a writable folder", "choose another storage folder"
            raise _refusal("STUDY-STORAGE", files, str(error), expected, hint) from error
        except LeaseTakenError as error:
            found, hint = f"another process runs this study: {error}", "wait for it to end, or use another name"
            raise _refusal("STUDY-BUSY", files, found, "one at a time", hint) from error
        try:
            _check_identity(files, {"data": data, "storage": JOURNAL, "method": METHOD_VERSION, **space.identity()})
            _prepare_journal(files, space)
            yield Ledger(files, space)
        except KeyboardInterrupt:
            if not lost.is_set():
                raise
            found, hint = "its lease could not be renewed in time", "give the same command again: it resumes"
            raise _refusal("STUDY-BUSY", files, found, "a bucket that can be reached", hint) from None


def _refusal(code: str, files: WorkingCopy, found: str, expected: str, hint: str) -> ConfigError:
    return ConfigError(Problem(code, where=files.place.address, found=found, expected=expected, hint=hint))


def _prepare_journal(files: WorkingCopy, space: SearchSpace) -> None:
    """In a folder the journal is kept; with a bucket it is made again from the bucket's records."""
    path = files.folder / JOURNAL
    trials: dict[int, tuple[dict[str, Any], TrialRecord | None]] = {}
    if not files.place.is_local:
        path.unlink(missing_ok=True)
        for name in ("trials", "progress.json"):
            files.forget(files.folder / name)
        files.fetch_named(files.folder / "trials", (RECORD, _PROPOSAL, LOGGED))
        with contextlib.suppress(FileNotFoundError):
            files.fetch(files.folder / "progress.json")
        (files.folder / "trials").mkdir(parents=True, exist_ok=True)
        records = {record.number: record for record in read_records(files)}
        for proposal in sorted((files.folder / "trials").glob(f"*/{_PROPOSAL}")):
            number = int(proposal.parent.name)
            trials[number] = json.loads(proposal.read_text()), records.get(number)
    if not path.exists():
        create_study(path, space, trials)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two identities, a line each: ``space.optim.lr: {...} is now {...}``."""
    old, new = flatten(before), flatten(after)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return [f"{name}: {_say(old, name)} is now {_say(new, name)}" for name in names]


def _check_identity(files: WorkingCopy, identity: Mapping[str, Any]) -> None:
    path = files.folder / IDENTITY
    now = json.loads(json.dumps(identity))
    try:
        before = json.loads(files.fetch(path, again=True).read_text())
    except FileNotFoundError:
        files.put(write_json(path, now))
        return
    hint = f"use another name, or remove {files.place.address} to begin afresh"
    changes = differences(before, now)
    if changes:
        where, expected = files.place.address, "what it started with"
        raise ConfigError(
            *(Problem("STUDY-CHANGED", where=where, found=each, expected=expected, hint=hint) for each in changes)
        )


def _read_progress(folder: Path) -> dict[str, Any]:
    """The number of trials that `Ledger.extend` set, and the seconds of a time budget that was spent."""
    path = folder / "progress.json"
    return {"trials": 0, "extending": False, "spent_s": 0.0, **(json.loads(path.read_text()) if path.exists() else {})}


def _say(leaves: Mapping[str, Any], name: str) -> str:
    return json.dumps(leaves[name]) if name in leaves else "absent"


def _number(value: float | None) -> float:
    return math.nan if value is None else value
