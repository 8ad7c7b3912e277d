"""Recurrence over time that skips masked frames."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from affectgrid.model.dropout import LockedDropout
from affectgrid.model.temporal.gru import run_grus


@dataclasses.dataclass(frozen=True)
class FrameOrder:
    """Where the real frames of each window are, so that a GRU can run over them alone, forwards and backwards.

    Args:
        forward: for each step, the frame to read: real frames in order, then the masked ones; None: as they are.
        backward: the same with the real frames reversed; None: plainly reversed.
        real: which steps of `forward` are real frames; None: all.
    """

    forward: Int[Tensor, "batch frame"] | None
    backward: Int[Tensor, "batch frame"] | None
    real: Bool[Tensor, "batch frame"] | None = None

    @classmethod
    def of(cls, frame_mask: Bool[Tensor, "batch frame"]) -> FrameOrder:
        """Masked frames come last in both directions, where a GRU meets them after every real frame.

        An exported model is for windows without any.
        """
        if torch.compiler.is_exporting() or bool(frame_mask.all()):
            return cls(None, None)
        forward = torch.argsort(~frame_mask, dim=1, stable=True)
        count = frame_mask.sum(1, keepdim=True)
        step = torch.arange(frame_mask.shape[1], device=frame_mask.device)
        real = step < count
        mirrored = torch.where(real, count - 1 - step, step)
        return cls(forward, forward.gather(1, mirrored), real)


class TemporalEncoder(nn.Module):
    """A stack of GRU layers for every stream; bidirectional ones give half of the width to each direction.

    Masked frames influence no other frame, and the states returned for them are meaningless but finite.
    """

    def __init__(
        self, num_streams: int, hidden_dim: int, num_layers: int, dropout: float, *, bidirectional: bool
    ) -> None:
        super().__init__()
        self.num_directions = 2 if bidirectional else 1
        width = hidden_dim // self.num_directions
        self.layers = nn.ModuleList(
            nn.ModuleList(nn.GRU(hidden_dim, width, batch_first=True) for _ in range(num_streams * self.num_directions))
            for _ in range(num_layers)
        )  # within a layer: stream by stream, forwards before backwards
        self.dropout = LockedDropout(dropout)

    def forward(
        self, states: Float[Tensor, "stream batch frame hidden"], order: FrameOrder
    ) -> Float[Tensor, "stream batch frame hidden"]:
        for number, grus in enumerate(self.layers.children()):
            if number:
                states = self.dropout(states)
            directions = [in_order(states, order.forward), _reverse(states, order.backward)][: self.num_directions]
            outputs = run_grus(list(grus.children()), torch.stack(directions, 1).flatten(0, 1))
            parts = outputs.view(len(states), self.num_directions, *outputs.shape[1:]).unbind(1)
            joined = [out_of_order(parts[0], order.forward)]
            joined += [_unreverse(part, order.backward) for part in parts[1:]]
            states = torch.cat(joined, -1)
        return states


def _index(states: Tensor, index: Tensor) -> Tensor:
    return index[None, ..., None].expand_as(states)


def in_order(states: Tensor, index: Tensor | None) -> Tensor:
    """The frames of every stream [stream, batch, frame, hidden] as one side of a `FrameOrder` has them."""
    return states if index is None else states.gather(2, _index(states, index))


def out_of_order(states: Tensor, index: Tensor | None) -> Tensor:
    """Undoes `in_order`."""
    return states if index is None else torch.zeros_like(states).scatter(2, _index(states, index), states)


def _reverse(states: Tensor, index: Tensor | None) -> Tensor:
    return states.flip(2) if index is None else in_order(states, index)


def _unreverse(states: Tensor, index: Tensor | None) -> Tensor:
    return states.flip(2) if index is None else out_of_order(states, index)
