"""From raw encoder features to frame states of one width, with a learned state for what is missing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from affectgrid.model.dropout import LockedDropout

MAX_DEVIATIONS = 10.0  # this project's choice


class StreamInput(nn.Module):
    """Standardisation, projection, and a learned token in place of every frame that the stream lacks.

    Encoders differ in scale by orders of magnitude, within one feature vector too, and what changes from frame to frame
    is often a small part of a large constant. So each feature is brought to mean 0 and deviation 1 over the training
    frames (`standardise`); the statistics are buffers, and a saved model carries them. What lies further than
    MAX_DEVIATIONS from the mean is taken to lie there: a feature that is nearly dead in training and wakes up later
    would drown all others.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, feature_dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("scale", torch.ones(feature_dim))
        self.project = nn.Linear(feature_dim, hidden_dim)
        self.absent = nn.Parameter(torch.randn(hidden_dim) * 0.02)
        self.dropout = LockedDropout(dropout)

    def standardise(self, mean: Float[Tensor, " feature"], deviation: Float[Tensor, " feature"]) -> None:
        """Take the statistics of the training frames; a feature that never changes is left out (scale 0).

        Features are stored in half precision, so a deviation below its resolution at the mean is rounding.
        """
        half = torch.finfo(torch.float16)
        floor = mean.abs() * half.eps + half.smallest_normal * half.eps
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(deviation > 0, 1 / torch.maximum(deviation, floor), 0))

    def forward(
        self, features: Float[Tensor, "batch frame feature"], present: Bool[Tensor, "batch frame"]
    ) -> Float[Tensor, "batch frame hidden"]:
        """Features of any float type; those of absent frames are never read, NaN included."""
        keep = present.unsqueeze(-1)
        # in one piece of memory: at some thousand frames a step each copy of all features costs as much as a layer
        known = features.to(self.project.weight.dtype, copy=True).masked_fill_(~keep, 0)
        standard = known.sub_(self.mean).mul_(self.scale).clamp_(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        states = self.project(standard)
        filled: Tensor = self.dropout(torch.where(keep, states, self.absent.to(states.dtype)))
        return filled


def drop_stream(
    present: Mapping[str, Bool[Tensor, "batch frame"]], chance: float
) -> dict[str, Bool[Tensor, "batch frame"]]:
    """Modality dropout: with `chance`, a window loses one of the streams that it has, each with the same probability.

    A window that has only one stream keeps it. Draws from torch's global generator.
    """
    has = torch.stack([frames.any(1) for frames in present.values()])  # [stream, batch]
    count, place = has.sum(0), has.cumsum(0) - 1
    draw = torch.rand(has.shape[1], device=has.device)
    loses = (draw < chance) & (count > 1)
    chosen = (draw >= chance * torch.arange(1, len(has), device=has.device)[:, None] / count.clamp(min=1)).sum(0)
    lost = has & loses & (place == chosen)
    return {name: frames & ~lost[number][:, None] for number, (name, frames) in enumerate(present.items())}
