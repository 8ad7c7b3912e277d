"""How long the workers of a search wait between their trials."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from affectgrid.search.study.records import TrialRecord


def waits_s(trials: Sequence[TrialRecord]) -> list[float]:
    """For every trial but the first of its worker: from the end of the one before to its own beginning."""
    ran = sorted((trial.worker, trial.began_at, trial.duration_s) for trial in trials if trial.worker)
    return [
        begins - (began + duration_s)
        for (worker, began, duration_s), (next_worker, begins, _) in itertools.pairwise(ran)
        if worker == next_worker
    ]
