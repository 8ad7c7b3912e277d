"""Each arm of a study compared with the first one: differences of P with intervals over videos and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from affectgrid.analysis.bootstrap import Difference, compare
from affectgrid.data.splits.resident import Split
from affectgrid.search.study.records import TrialRecord
from affectgrid.training.inference.package import load_package
from affectgrid.training.inference.predict import moments_by_video, predict_split


def compare_arms(
    arms: Mapping[str, Sequence[TrialRecord]], packages: Mapping[int, Path], validation: Split
) -> dict[str, Difference]:
    """Each arm's P minus the first arm's, on the validation split, with intervals over videos and seeds (`compare`).

    Nothing where the first arm is alone or was not finished. Corrected for as many comparisons as there are arms beside
    the first.

    Args:
        arms: the complete trials of each arm, one for each seed, the first arm first.
        packages: the model package of each trial, by its number.
        validation: what they were scored on.

    Raises what `load_package` and `predict_split` raise.
    """
    moments: dict[str, torch.Tensor] = {}
    for name, trials in arms.items():
        loaded = [load_package(packages[trial.number]) for trial in trials]
        predicted = [predict_split(package.model, validation, package.config.window) for package in loaded]
        if predicted:
            moments[name] = torch.stack([moments_by_video(one, validation) for one in predicted])
    first = next(iter(arms), "")
    if first not in moments:
        return {}
    count = max(1, len(arms) - 1)
    others = [name for name in moments if name != first]
    return {name: compare(moments[name], moments[first], num_comparisons=count) for name in others}
