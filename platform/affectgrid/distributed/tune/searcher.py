"""Ray's OptunaSearch with the ledger as its state: Optuna's journal is asked and told everything once."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from affectgrid.distributed.tune.trial import OBJECTIVE
from affectgrid.search.study.ledger import Ledger
from affectgrid.search.study.sampling import make_sampler, proposer


class GuardedOptunaSearch(OptunaSearch):  # type: ignore[misc]  # Ray is not typed
    """Proposes the trials that a study still lacks.

    Ray's OptunaSearch keeps a copy of its state in Tune's snapshots, which are some seconds behind the journal: after
    a kill it reports trials again that have ended (Optuna refuses) and leaves others RUNNING. Here the ledger is the
    only state. Interrupted trials come first, with their old proposals. Whoever ends a trial in the ledger also tells
    Optuna: only there is it known whether the trial ran to its end, was stopped early, or failed, and why.
    """

    def __init__(self, ledger: Ledger, max_concurrent_trials: Callable[[], float] = lambda: math.inf) -> None:
        sampler = make_sampler(ledger.space, num_asked=ledger.num_asked, prior_trials=ledger.prior_trials)
        super().__init__(
            space=proposer(ledger.space),
            metric=OBJECTIVE,  # what every report holds; with several objectives the ledger tells Optuna all of them
            mode="max",
            sampler=sampler,
            study_name=ledger.space.name,
            storage=ledger.study._storage,
        )
        ledger.study.sampler = sampler
        self._ot_study = ledger.study
        self._ledger = ledger
        self._interrupted_trials = ledger.interrupted_trials()
        self._num_left = ledger.num_left
        self._max_concurrent, self._under_way = max_concurrent_trials, set[str]()
        self._reported = {(trial.number, step) for trial in self._interrupted_trials for step in _steps(trial)}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's number and proposal; after the time budget only those that were interrupted.

        None while as many trials are under way as may be: Tune asks again.
        """
        self._ledger.start_clock()
        if self._num_left == 0:
            return str(Searcher.FINISHED)
        if not self._interrupted_trials and self._ledger.out_of_time:
            self._ledger.note_time_spent()
            return str(Searcher.FINISHED)
        if len(self._under_way) >= self._max_concurrent():
            return None
        self._under_way.add(trial_id)
        self._num_left = None if self._num_left is None else self._num_left - 1
        if self._interrupted_trials:
            self._ot_trials[trial_id] = self._interrupted_trials.pop(0)
        proposal = super().suggest(trial_id)
        number = self._ot_trials[trial_id].number
        self._ledger.propose(number, proposal)
        return {"number": number, "proposal": proposal}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record the objective after so many epochs, for the dashboard; each epoch once, even if a trial is retried.

        One value for each report of a worker but the last, which ends the trial and is recorded by the ledger. With
        several objectives Optuna has only the values of the whole trial.
        """
        if len(self._ledger.space.objective) > 1:
            return
        trial, step = self._ot_trials[trial_id], int(result["epochs"])
        if (trial.number, step) not in self._reported and math.isfinite(result[OBJECTIVE]):
            self._reported.add((trial.number, step))
            trial.report(result[OBJECTIVE], step)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Free the trial's slot. Optuna is told elsewhere: see the class."""
        self._under_way.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Write only a pointer: the state is elsewhere."""
        Path(checkpoint_path).write_text("the state of the search is in study.journal and trials/\n")

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the state is elsewhere."""

    def __reduce__(self) -> tuple[type[Searcher], tuple[()]]:
        return Searcher, ()  # Tune pickles its search algorithm for a restore that never happens


def _steps(trial: Any) -> list[int]:
    return list(trial.storage.get_trial(trial._trial_id).intermediate_values)
