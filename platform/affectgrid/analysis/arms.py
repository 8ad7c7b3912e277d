"""Each arm of a study compared with the first one: differences of P with intervals over tracks and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from affectgrid.analysis.bootstrap import Difference, paired_difference
from affectgrid.data.splits.resident import Split
from affectgrid.search.study.records import TrialRecord
from affectgrid.training.inference.package import load_package
from affectgrid.training.inference.predict import moments_by_track, predict_split


def compare_arms(
    arms: Mapping[str, Sequence[TrialRecord]], packages: Mapping[int, Path], validation: Split
) -> dict[str, Difference]:
    """Each arm's P minus the first arm's, on the validation split, by a paired bootstrap over tracks and seeds.

    Arms that lack a seed of the first one (a trial that failed) are left out, and so is everything where the first
    one is alone. Corrected for as many comparisons as there are arms beside the first.

    Args:
        arms: the complete trials of each arm, one for each seed, the first arm first.
        packages: the model package of each trial, by its number.
        validation: what they were scored on.

    Raises what `load_package` and `predict_split` raise.
    """
    moments: dict[str, torch.Tensor] = {}
    seeds: tuple[int, ...] = ()
    for name, trials in arms.items():
        ordered = sorted(trials, key=lambda trial: trial.seeds[0].seed)
        seeds = seeds or tuple(trial.seeds[0].seed for trial in ordered)
        if seeds and tuple(trial.seeds[0].seed for trial in ordered) == seeds:
            loaded = [load_package(packages[trial.number]) for trial in ordered]
            predicted = [predict_split(package.model, validation, package.config.window) for package in loaded]
            moments[name] = torch.stack([moments_by_track(one, validation) for one in predicted])
    first, *others = moments or [""]
    if first != next(iter(arms), None):
        return {}
    count = max(1, len(arms) - 1)
    return {
        name: paired_difference(moments[name], moments[first], num_comparisons=count, redraw_seeds=len(seeds) > 1)
        for name in others
    }
