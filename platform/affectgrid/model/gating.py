"""Gated refinement: how much of each stream a frame's fused state takes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class GatedFusion(nn.Module):
    """g = sigmoid(W [v; a]) and f = g v + (1 - g) a, for every frame and every channel."""

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * hidden_dim, hidden_dim)

    def forward(
        self, visual: Float[Tensor, "batch frame hidden"], audio: Float[Tensor, "batch frame hidden"]
    ) -> tuple[Float[Tensor, "batch frame hidden"], Float[Tensor, "batch frame hidden"]]:
        """Returns the fused state and the gate in (0, 1): 1 takes the visual stream, 0 the sound."""
        gate = torch.sigmoid(self.gate(torch.cat([visual, audio], -1)))
        return audio + gate * (visual - audio), gate
