"""Each arm of a study compared with the first one: differences of P with intervals over videos and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from affectgrid.analysis.bootstrap import Difference, compare
from affectgrid.analysis.moments import TrialMoments
from affectgrid.search.study.records import TrialRecord


def compare_arms(arms: Mapping[str, Sequence[TrialRecord]], moments: TrialMoments) -> dict[str, Difference]:
    """Each arm's P minus the first arm's, on the validation split, with intervals over videos and seeds (`compare`).

    Nothing where the first arm is alone or was not finished. Corrected for as many comparisons as there are arms beside
    the first.

    Args:
        arms: the complete trials of each arm, one for each seed, the first arm first.
        moments: of every raw video under the model of each trial.
    """
    found = {
        name: torch.cat([moments[trial.number] for trial in trials if trial.number in moments])
        for name, trials in arms.items()
        if any(trial.number in moments for trial in trials)
    }
    first = next(iter(arms), "")
    if first not in found:
        return {}
    count = max(1, len(arms) - 1)
    return {name: compare(own, found[first], num_comparisons=count) for name, own in found.items() if name != first}
