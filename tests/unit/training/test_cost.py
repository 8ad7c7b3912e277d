"""What a model costs."""

from __future__ import annotations

import torch
from torch import nn

from affectgrid.training.build import build_model
from affectgrid.training.config import WindowConfig
from affectgrid.training.inference.cost import model_costs
from support.planted import AUDIO_DIM, VISUAL_DIM, planted_prompts, planted_split, small_config

SPLIT = planted_split("train", [30])


def costs_of(latency: bool = True, **settings: object) -> dict[str, float]:
    config = small_config(**settings)
    model = build_model(config, prompts=planted_prompts(), visual_dim=VISUAL_DIM, audio_dim=AUDIO_DIM)
    return model_costs(model, SPLIT, config.window, device="cpu", latency=latency)


def test_parameters_are_counted():
    linear = nn.Linear(3, 2)
    costs = model_costs(linear, SPLIT, WindowConfig(), device="cpu", latency=False)
    assert costs == {"parameters": 8.0}  # 3 x 2 weights and 2 biases
    narrow, wide = costs_of(latency=False), costs_of(latency=False, model__hidden_dim=32)
    assert narrow["parameters"] < wide["parameters"]


def test_latency_is_that_of_one_window_and_leaves_no_gradient():
    shapes = []

    class Watched(nn.Module):
        def forward(self, visual: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
            shapes.append((tuple(visual.shape), tuple(others[1].shape), torch.is_grad_enabled(), self.training))
            return visual

    costs = model_costs(Watched(), SPLIT, WindowConfig(length=7, stride=7), device="cpu", latency=True)
    assert set(shapes) == {((1, 7, VISUAL_DIM), (1, 7, AUDIO_DIM), False, False)}
    assert costs["latency_ms"] >= 0
    assert costs_of()["latency_ms"] > 0  # the real model takes what it is given
