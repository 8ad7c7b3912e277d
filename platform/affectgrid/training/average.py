"""An exponential moving average of a model's weights: what is validated and kept in place of the last step's."""

from __future__ import annotations

import copy

import torch
from torch import nn

from affectgrid.model.fusion import FusionModel
from affectgrid.training.schedule import average_decay


class WeightAverage:
    """A second model whose parameters follow the first one's: ``average += (1 - decay) * (weight - average)``.

    Buffers (the features' statistics, frozen text features) do not change in training and are the same in both. Every
    worker keeps its own; they are equal, as the weights are.
    """

    def __init__(self, model: FusionModel, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after the 0-based `step` of the whole run."""
        keep = average_decay(step, self.decay)
        for average, weight in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(weight, 1 - keep)
