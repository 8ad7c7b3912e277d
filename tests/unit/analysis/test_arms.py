"""Arms beside the first one: the difference of their models' P on the same videos."""

from __future__ import annotations

import pytest
import torch

from affectgrid.analysis.arms import compare_arms
from affectgrid.analysis.moments import TrialMoments
from affectgrid.search.study.records import SeedRecord, TrialRecord
from affectgrid.training.inference.predict import moments_by_video, predict_split
from affectgrid.training.loop import fit
from support.planted import planted_data, small_config

DATA = planted_data()


@pytest.fixture(scope="module")
def study() -> tuple[dict[str, list[TrialRecord]], TrialMoments]:
    """Two seeds of a model that hears and sees, of one that only sees, and one seed of a third."""
    arms: dict[str, list[TrialRecord]] = {}
    moments: dict[int, torch.Tensor] = {}
    plan = [("both", {}, 0), ("visual only", {"model__streams": ("visual",)}, 0), ("half", {}, 0)]
    plan += [(name, settings, 1) for name, settings, _ in plan[:2]]
    for number, (name, settings, seed) in enumerate(plan):
        config = small_config(seed=seed, optim__epochs=2, **settings)
        result = fit(config, DATA.train, DATA.validation, DATA.prompts_for(config))
        predicted = predict_split(result.model, DATA.validation, config.window)
        moments[number] = moments_by_video(predicted, DATA.validation)[None]
        record = SeedRecord(seed=seed, history=tuple(result.history))
        trial = TrialRecord(
            number=number, label=name, params={}, state="complete", objective=result.best["val/p"], seeds=(record,),
            arm=name,
        )  # fmt: skip
        arms.setdefault(name, []).append(trial)
    return arms, moments


def test_the_difference_is_that_of_the_scores_that_training_saw(study):
    arms, moments = study
    found = compare_arms(arms, moments)
    assert list(found) == ["visual only", "half"]  # the first is what they are compared with
    assert found["half"].num_seeds == 1
    p = {name: sum(trial.objective for trial in trials) / 2 for name, trials in arms.items()}
    difference = found["visual only"]
    assert difference.estimate == pytest.approx(p["visual only"] - p["both"], abs=1e-5)
    assert difference.low <= difference.estimate <= difference.high
    assert (difference.num_seeds, difference.num_comparisons) == (2, 2)


def test_without_the_first_arm_nothing_is_compared(study):
    arms, moments = study
    assert compare_arms({"both": [], **{name: arms[name] for name in ("visual only",)}}, moments) == {}
    assert compare_arms({}, moments) == {}
