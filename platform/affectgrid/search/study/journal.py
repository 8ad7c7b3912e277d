"""Optuna's storage of a study: a journal, to which each change is appended and flushed to disk.

A proposal, for which a worker may wait, costs a tenth of what it costs in SQLite, and a journal is safe on shared file
systems whose locks SQLite cannot trust. It is on the driver's node: where a study's results are in a bucket, it is made
again from the study's proposals and records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from affectgrid.search.space.schema import SearchSpace, Values
from affectgrid.search.study.records import TrialRecord
from affectgrid.search.study.sampling import encoded, first_proposals, proposal_distributions

STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


def open_journal(path: Path) -> JournalStorage:
    """Open or create it. The caller makes sure that only one process writes at a time.

    The remains of a kill in the middle of a change are removed: half of the last line, which was never acknowledged,
    and the lock, for which Optuna would wait half a minute.
    """
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if path.exists():
        _drop_half_a_line(path)
    return JournalStorage(JournalFileBackend(str(path)))


def create_study(path: Path, space: SearchSpace, trials: Mapping[int, tuple[Values, TrialRecord | None]]) -> None:
    """Write the journal of a study with the trials that it has had: number -> proposal and, if it ended, its record.

    Trials without a record, and first proposals that were never asked for, are queued under their numbers. The journal
    has a temporary name until it is complete.
    """
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    directions = [goal.direction for goal in space.objective]
    study = optuna.create_study(study_name=space.name, storage=open_journal(partial), directions=directions)
    study.add_trials(list(_trials(space, trials)))
    partial.rename(path)


def _trials(space: SearchSpace, trials: Mapping[int, tuple[Values, TrialRecord | None]]) -> Iterator[FrozenTrial]:
    first = first_proposals(space)
    for number in range(max(len(first), max(trials, default=-1) + 1)):
        proposal, record = trials.get(number, (None, None))
        if record is not None and proposal is not None:
            yield finished_trial(space, record, proposal)
        else:
            fixed = encoded(proposal) if proposal is not None else first[number] if number < len(first) else None
            attributes = {} if fixed is None else {"fixed_params": fixed}
            yield optuna.trial.create_trial(state=TrialState.WAITING, system_attrs=attributes)


def finished_trial(space: SearchSpace, record: TrialRecord, proposal: Values) -> FrozenTrial:
    """A trial that ended, as Optuna has it."""
    state = STATES[record.state]
    values = [record.value(goal.metric) for goal in space.objective]
    return optuna.trial.create_trial(
        state=state,
        params=encoded(proposal),
        distributions=proposal_distributions(space, proposal),
        values=values if state == TrialState.COMPLETE else None,
        intermediate_values=intermediate_values(space, record),
        user_attrs={"reason": record.reason} if record.reason else {},
    )


def intermediate_values(space: SearchSpace, record: TrialRecord) -> dict[int, float]:
    """The last value of a trial by its epochs: the only one that the sampler has of a trial stopped early."""
    epochs = sum(len(seed.history) for seed in record.seeds)
    return {epochs: record.objective} if record.objective is not None and epochs and len(space.objective) == 1 else {}


def _drop_half_a_line(path: Path) -> None:
    with path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
