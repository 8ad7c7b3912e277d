"""What a model costs."""

from __future__ import annotations

import torch
from torch import nn

from affectgrid.model.fusion import StreamInputs
from affectgrid.training.build import build_model
from affectgrid.training.config import WindowConfig
from affectgrid.training.inference.cost import model_costs
from support.planted import DIMS, planted_prompts, planted_split, small_config

SPLIT = planted_split("train", [30])


def costs_of(latency: bool = True, **settings: object) -> dict[str, float]:
    config = small_config(**settings)
    model = build_model(config, prompts=planted_prompts(), dims=DIMS)
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
        def forward(self, streams: StreamInputs, frame_mask: torch.Tensor) -> torch.Tensor:
            sizes = {name: tuple(features.shape) for name, (features, _) in streams.items()}
            shapes.append((sizes, tuple(frame_mask.shape), torch.is_grad_enabled(), self.training))
            return frame_mask

    costs = model_costs(Watched(), SPLIT, WindowConfig(length=7, stride=7), device="cpu", latency=True)
    sizes = {name: (1, 7, dim) for name, dim in DIMS.items()}
    assert all(seen == (sizes, (1, 7), False, False) for seen in shapes)
    assert costs["latency_ms"] >= 0
    assert costs_of()["latency_ms"] > 0  # the real model takes what it is given
