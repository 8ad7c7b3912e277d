"""Dropout that is cheap on a CPU and constant over time."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LockedDropout(nn.Module):
    """Drops a channel for a whole window, not frame by frame (variational dropout; Gal and Ghahramani, NeurIPS 2016).

    A fresh mask per frame is averaged away by the recurrence, and drawing it costs a CPU more than the layer it guards.
    """

    def __init__(self, chance: float) -> None:
        super().__init__()
        self.chance = chance

    def forward(self, states: Float[Tensor, "*batch frame hidden"]) -> Float[Tensor, "*batch frame hidden"]:
        if not self.training or self.chance == 0:
            return states
        keep = torch.empty_like(states[..., :1, :]).bernoulli_(1 - self.chance)
        return states * keep.div_(1 - self.chance)

    def extra_repr(self) -> str:
        return f"chance={self.chance}"
