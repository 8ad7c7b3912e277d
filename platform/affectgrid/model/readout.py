"""A prediction read out of the regions, beside that of the regression head."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from affectgrid.regions import RegionGrid, expected_centre


class Readout(nn.Module):
    """(1 - blend) va + blend sum_k p_k c_k, with p the prompt head's distribution over the regions.

    The sum never leaves the hull of the centres: with centres at +-2/3 it cannot say .9, which the regression head can.
    """

    centres: Tensor

    def __init__(self, grid: RegionGrid, blend: float) -> None:
        super().__init__()
        self.blend = blend
        self.register_buffer("centres", grid.centres_tensor(), persistent=False)  # a saved model has its grid beside it

    def forward(
        self, va: Float[Tensor, "*batch 2"], region_logits: Float[Tensor, "*batch region"]
    ) -> Float[Tensor, "*batch 2"]:
        return torch.lerp(va.float(), expected_centre(region_logits.float().softmax(-1), self.centres), self.blend)

    def extra_repr(self) -> str:
        return f"blend={self.blend}"
