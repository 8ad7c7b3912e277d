"""The ablation's file: every arm builds, trains a step and predicts, and the arms are those of the method's table."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch

from affectgrid.encoders.visual import load_visual
from affectgrid.model.config import PromptMode, Temporal
from affectgrid.search.space.reading import load_space
from affectgrid.search.space.schema import Arm
from affectgrid.training.loop import fit
from affectgrid.training.text_features import encode_prompts
from support.planted import planted_split

SPACE = load_space(Path(__file__).parents[3] / "search_spaces" / "ablation.yaml")
SHORT = {"optim.epochs": 1, "model.hidden_dim": 8, "window.length": 24, "window.stride": 16}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory):
    torch.set_num_threads(1)
    store = tmp_path_factory.mktemp("store")
    return encode_prompts(SPACE.prompt_files(), load_visual("tiny"), store, modes=SPACE.values_of("prompt.mode"))


@pytest.fixture(scope="module")
def splits():
    return planted_split("train", [30, 25]), planted_split("validation", [26], seed=1)


@pytest.mark.parametrize("arm", SPACE.arms, ids=lambda arm: arm.name)
def test_every_arm_trains(arm: Arm, prompts, splits):
    config = SPACE.resolve({**arm.set, **SHORT}, seed=0)
    result = fit(config, *splits, prompts[config.prompt.file])
    assert -1 <= result.best["val/p"] <= 1
    assert (result.best["train/loss_prompt"] > 0) is (arm.name != "CCC only")


def test_no_two_arms_are_the_same_run():
    configs = [SPACE.resolve(arm.set, seed=0).model_dump_json() for arm in SPACE.arms]
    assert len(set(configs)) == len(SPACE.arms)
    assert SPACE.arms[0].set == {}
    assert SPACE.seeds == (0, 1, 2, 3, 4)  # fewer give no verdict


def test_the_arms_cover_the_table():
    configs = [SPACE.resolve(arm.set, seed=0) for arm in SPACE.arms]
    assert {c.prompt.mode for c in configs} == set(get_args(PromptMode))
    assert {c.prompt.labels for c in configs} == {"gaussian", "hard", "uniform", "learned"}
    assert {c.model.temporal for c in configs} == set(get_args(Temporal))
    assert {c.model.fusion for c in configs} == {"both", "attention", "gate", "concat"}
    assert {c.model.streams for c in configs} == {("visual", "audio"), ("visual",), ("audio",)}
    assert {c.prompt.sigma_ratio for c in configs} >= {0.1, 0.2, 0.3, 0.5, 0.7, 1.0}
    assert {c.prompt.readout_blend for c in configs} == {0.0, 0.5, 1.0}
    assert {c.prompt.context_shared for c in configs if c.prompt.mode == "context"} == {True, False}
