"""The width of the soft labels as a learnable parameter, within bounds."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LearnedSigma(nn.Module):
    """One or two kernel widths, each held strictly between two bounds by a sigmoid on a logarithmic scale.

    Both bounds are needed. The divergence of prediction from label is also small where all labels are uniform and the
    head says nothing, at a wide sigma; and a narrow one makes every label a corner that the head can only chase.

    Args:
        start: one width for both axes, or one along valence and one along arousal, in units of the spacing.
        bounds: lowest and highest width, in the same unit.
        spacing: of the region centres along valence and along arousal.

    Raises ValueError for a start that does not lie between the bounds.
    """

    spacing: Tensor

    def __init__(
        self, start: tuple[float, ...], bounds: tuple[float, float], spacing: tuple[float, float] = (1.0, 1.0)
    ) -> None:
        super().__init__()
        low, high = bounds
        if not all(low < width < high for width in start):
            raise ValueError(f"sigma must start between {low:g} and {high:g}, not at {start}")
        self.log_low, self.log_range = math.log(low), math.log(high / low)
        share = torch.tensor([math.log(width / low) / self.log_range for width in start])
        self.position = nn.Parameter(torch.logit(share))
        self.register_buffer("spacing", torch.tensor(spacing), persistent=False)  # a saved model has its grid beside it

    def forward(self) -> Float[Tensor, " axis"]:
        """The widths along valence and along arousal."""
        return torch.exp(self.log_low + self.log_range * torch.sigmoid(self.position)) * self.spacing
