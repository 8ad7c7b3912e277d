"""The memory of a study: what was proposed, and how it ended. It survives a kill at any instruction.

Optuna's database holds every proposal; a file in the trial's folder holds how the trial ended. The file is written
first and the database is told afterwards, so a trial is finished exactly when its file exists, and what the database
missed is told to it when the study is opened again. A proposal without a file was being worked on: it is taken up
again under its own number. So no trial is lost, none runs under two numbers, and none is left RUNNING. Snapshots that
the scheduler takes of itself have no part in it: they are always some seconds behind the database.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from affectgrid.errors import ConfigError, Problem
from affectgrid.search.optuna_glue import first_proposals
from affectgrid.search.schema import SearchSpace
from affectgrid.search.summary import TrialRecord

_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


class Ledger:
    """An open study. `open_ledger` makes it."""

    def __init__(self, folder: Path, space: SearchSpace) -> None:
        self.folder, self.space = folder, space
        self.study = optuna.load_study(study_name=space.name, storage=_storage(folder / "study.db"))
        self.records = {record.number: record for record in _read_records(folder)}
        for trial in self._running():
            if trial.number in self.records:
                self._tell(self.records[trial.number])

    @property
    def num_asked(self) -> int:
        """Proposals that were ever made; those that wait in the queue do not count."""
        return sum(trial.state != TrialState.WAITING for trial in self._trials())

    @property
    def num_left(self) -> int:
        """Trials that still have to end."""
        return max(0, self.space.num_trials - len(self.records))

    def orphans(self) -> list[optuna.Trial]:
        """Proposals whose trial was interrupted; each goes on as itself, with the values that it has."""
        left = [trial for trial in self._running() if trial.number not in self.records]
        return [optuna.Trial(self.study, trial._trial_id) for trial in left]

    def folder_of(self, number: int) -> Path:
        """Where a trial keeps its files."""
        return trial_folder(self.folder, number)

    def finish(self, record: TrialRecord) -> TrialRecord:
        """Note how a trial ended; only then is the database told. A second end of the same trial changes nothing."""
        if record.number in self.records:
            return self.records[record.number]
        if record.state != "failed" and not math.isfinite(_number(record.objective)):
            reason = f"the objective is {record.objective}"  # Optuna would refuse it and leave the trial RUNNING
            record = record.model_copy(update={"state": "failed", "objective": None, "reason": reason})
        write_json(self.folder_of(record.number) / "trial.json", record.model_dump(mode="json"))
        self.records[record.number] = record
        self._tell(record)
        return record

    def _tell(self, record: TrialRecord) -> None:
        if record.reason:
            trial_id = self.study._storage.get_trial_id_from_study_id_trial_number(self.study._study_id, record.number)
            self.study._storage.set_trial_user_attr(trial_id, "reason", record.reason)
        values = record.objective if record.state == "complete" else None
        self.study.tell(record.number, values, state=_STATES[record.state], skip_if_finished=True)

    def _trials(self) -> list[Any]:
        return list(self.study.get_trials(deepcopy=False))

    def _running(self) -> list[Any]:
        return [trial for trial in self._trials() if trial.state == TrialState.RUNNING]


@contextlib.contextmanager
def open_ledger(folder: Path, space: SearchSpace, *, data: str) -> Iterator[Ledger]:
    """Begin the study of `folder`, or go on with it.

    Raises ConfigError: STUDY-BUSY while another process runs it; STUDY-CHANGED, with each difference, where the space
    or the data (its fingerprint) is not the one that it began with; STUDY-STORAGE where the folder cannot be written.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        (folder / "trials").mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        mend = "choose another storage folder"
        raise ConfigError(
            Problem("STUDY-STORAGE", str(folder), str(error), "a folder that can be written", mend)
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it when the process dies
        except BlockingIOError as error:
            mend = "wait for it to end, or use another name"
            raise ConfigError(
                Problem("STUDY-BUSY", str(folder), "another process runs this study", "one at a time", mend)
            ) from error
        _check_identity(folder, {"data": data, **space.identity()})
        _create_database(folder / "study.db", space)
        yield Ledger(folder, space)


def trial_folder(study: Path, number: int) -> Path:
    """Where the trial with this number keeps its files."""
    return study / "trials" / f"{number:05d}"


def write_json(path: Path, content: Any) -> None:
    """Write a file that is there whole or not at all, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two identities, a line each: ``space.optim.lr: {...} is now {...}``."""
    old, new = _leaves(before), _leaves(after)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return [f"{name}: {_say(old, name)} is now {_say(new, name)}" for name in names]


def _check_identity(folder: Path, identity: Mapping[str, Any]) -> None:
    path = folder / "space.json"
    now = json.loads(json.dumps(identity))
    if not path.exists():
        write_json(path, now)
        return
    changes = differences(json.loads(path.read_text()), now)
    if changes:
        mend = f"use another name, or remove {folder} to begin afresh"
        raise ConfigError(
            *(Problem("STUDY-CHANGED", str(folder), change, "what it began with", mend) for change in changes)
        )


def _create_database(path: Path, space: SearchSpace) -> None:
    """Under another name until the first proposals are queued: the final name means that all of it is there."""
    if path.exists():
        return
    partial = path.with_name("study.db.partial")
    partial.unlink(missing_ok=True)
    study = optuna.create_study(study_name=space.name, storage=_storage(partial), direction="maximize")
    for values in first_proposals(space):
        study.enqueue_trial(values)
    study._storage.remove_session()
    partial.rename(path)


def _storage(path: Path) -> optuna.storages.RDBStorage:
    return optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})


def _read_records(folder: Path) -> Iterator[TrialRecord]:
    for path in sorted((folder / "trials").glob("*/trial.json")):
        yield TrialRecord.model_validate_json(path.read_text())


def _leaves(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            leaves |= _leaves(value, f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def _say(leaves: Mapping[str, Any], name: str) -> str:
    return json.dumps(leaves[name]) if name in leaves else "absent"


def _number(value: float | None) -> float:
    return math.nan if value is None else value
