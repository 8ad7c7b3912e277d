"""OptunaSearch, guarded: what Optuna's journal already knows is neither asked for nor told a second time."""

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
    """Proposes what a study still lacks.

    Ray's own keeps a copy of its state in Tune's snapshots, which are some seconds behind the journal: after a kill it
    tells trials again that have ended (Optuna refuses) and leaves others RUNNING. Here the ledger is the only state.
    Proposals whose trial was interrupted come first, as themselves. Trials are told by whoever ends them in the ledger,
    because only there is it known whether they ran to their end, were ended early, or failed, and why.
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
        """Note the objective after so many epochs, for the dashboard; a trial that is tried again notes each once.

        One value for each report of a worker but the last, which ends the trial and is noted by the ledger. Of several
        objectives Optuna knows no values but those of the whole trial.
        """
        if len(self._ledger.space.objective) > 1:
            return
        trial, step = self._ot_trials[trial_id], int(result["epochs"])
        if (trial.number, step) not in self._reported and math.isfinite(result[OBJECTIVE]):
            self._reported.add((trial.number, step))
            trial.report(result[OBJECTIVE], step)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Make room for another. Optuna is told elsewhere: see the class."""
        self._under_way.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing is kept here."""
        Path(checkpoint_path).write_text("the state of the search is in study.journal and trials/\n")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is kept here."""

    def __reduce__(self) -> tuple[type[Searcher], tuple[()]]:
        return Searcher, ()  # Tune pickles its search algorithm for a restore that is never asked for


def _steps(trial: Any) -> list[int]:
    return list(trial.storage.get_trial(trial._trial_id).intermediate_values)
