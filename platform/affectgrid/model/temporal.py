"""Recurrence over time that steps over masked frames as if they were not there."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class FrameOrder:
    """Where the real frames of each window are, so that a GRU can run over them alone, forwards and backwards.

    Args:
        forward: for each step, the frame to read: real frames in order, then the masked ones; None: as they are.
        backward: the same with the real frames reversed; None: plainly reversed.
    """

    forward: Int[Tensor, "batch frame"] | None
    backward: Int[Tensor, "batch frame"] | None

    @classmethod
    def of(cls, frame_mask: Bool[Tensor, "batch frame"]) -> FrameOrder:
        """Masked frames come last in both directions, where a GRU meets them after every real frame."""
        if bool(frame_mask.all()):
            return cls(None, None)
        forward = torch.argsort(~frame_mask, dim=1, stable=True)
        count = frame_mask.sum(1, keepdim=True)
        step = torch.arange(frame_mask.shape[1], device=frame_mask.device)
        mirrored = torch.where(step < count, count - 1 - step, step)
        return cls(forward, forward.gather(1, mirrored))


class TemporalEncoder(nn.Module):
    """A stack of GRU layers; bidirectional ones give half of the width to each direction.

    Masked frames influence no other frame, and the states returned for them are meaningless but finite.
    """

    def __init__(self, hidden_dim: int, num_layers: int, dropout: float, *, bidirectional: bool) -> None:
        super().__init__()
        width = hidden_dim // 2 if bidirectional else hidden_dim
        self.forwards = nn.ModuleList(nn.GRU(hidden_dim, width, batch_first=True) for _ in range(num_layers))
        self.backwards = nn.ModuleList(
            nn.GRU(hidden_dim, width, batch_first=True) for _ in range(num_layers if bidirectional else 0)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, states: Float[Tensor, "batch frame hidden"], order: FrameOrder
    ) -> Float[Tensor, "batch frame hidden"]:
        for layer, forwards in enumerate(self.forwards):
            if layer:
                states = self.dropout(states)
            parts = [_unsort(forwards(_sort(states, order.forward))[0], order.forward)]
            if self.backwards:
                reverse = self.backwards[layer](_reverse(states, order.backward))[0]
                parts.append(_unreverse(reverse, order.backward))
            states = torch.cat(parts, -1)
        return states


def _sort(states: Tensor, index: Tensor | None) -> Tensor:
    return states if index is None else states.gather(1, index[..., None].expand(-1, -1, states.shape[-1]))


def _unsort(states: Tensor, index: Tensor | None) -> Tensor:
    if index is None:
        return states
    return torch.zeros_like(states).scatter(1, index[..., None].expand(-1, -1, states.shape[-1]), states)


def _reverse(states: Tensor, index: Tensor | None) -> Tensor:
    return states.flip(1) if index is None else _sort(states, index)


def _unreverse(states: Tensor, index: Tensor | None) -> Tensor:
    return states.flip(1) if index is None else _unsort(states, index)
