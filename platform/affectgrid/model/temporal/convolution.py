"""A temporal convolutional network for every stream: the common alternative to recurrence."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from affectgrid.model.dropout import LockedDropout
from affectgrid.model.temporal.recurrent import FrameOrder, in_order, out_of_order


class DilatedBlock(nn.Module):
    """Two convolutions with gaps of `dilation` frames and a residual path (Bai, Kolter and Koltun, 2018, "TCN").

    Layer normalisation of each frame stands where they normalise weights: it mixes no frames, so padding cannot leak.
    """

    def __init__(self, hidden_dim: int, kernel: int, dilation: int, dropout: float, *, causal: bool) -> None:
        super().__init__()
        reach = (kernel - 1) * dilation
        self.reach = (reach, 0) if causal else (reach // 2, reach // 2)  # frames before and after
        self.norm = nn.LayerNorm(hidden_dim)
        self.first = nn.Conv1d(hidden_dim, hidden_dim, kernel, dilation=dilation)
        self.second = nn.Conv1d(hidden_dim, hidden_dim, kernel, dilation=dilation)
        self.dropout = LockedDropout(dropout)

    def forward(
        self, states: Float[Tensor, "batch frame hidden"], real: Bool[Tensor, "batch frame"] | None
    ) -> Float[Tensor, "batch frame hidden"]:
        """Frames that are not `real` are read as what lies beyond the ends of a window, zero; None: all are real."""
        inner = self.dropout(relu(self._convolve(self.first, self.norm(states), real)))
        refined: Tensor = states + self.dropout(self._convolve(self.second, inner, real))
        return refined

    def _convolve(self, layer: nn.Module, states: Tensor, real: Tensor | None) -> Tensor:
        known = states if real is None else torch.where(real.unsqueeze(-1), states, 0)
        convolved: Tensor = layer(pad(known.transpose(1, 2), self.reach)).transpose(1, 2)
        return convolved


class ConvolutionalEncoder(nn.Module):
    """Dilated blocks for every stream; block n has gaps of 2 ** n frames, so the view doubles with every block.

    One output frame is made of 1 + 2 (kernel - 1) (2 ** num_blocks - 1) frames.

    Masked frames influence no other frame, and the states returned for them are meaningless but finite.
    """

    def __init__(
        self, num_streams: int, hidden_dim: int, num_blocks: int, kernel: int, dropout: float, *, causal: bool
    ) -> None:
        super().__init__()
        self.streams = nn.ModuleList(
            nn.ModuleList(DilatedBlock(hidden_dim, kernel, 2**n, dropout, causal=causal) for n in range(num_blocks))
            for _ in range(num_streams)
        )

    def forward(
        self, states: Float[Tensor, "stream batch frame hidden"], order: FrameOrder
    ) -> Float[Tensor, "stream batch frame hidden"]:
        outputs = []
        for own, blocks in zip(in_order(states, order.forward), self.streams.children(), strict=True):
            for block in blocks.children():
                own = block(own, order.real)
            outputs.append(own)
        return out_of_order(torch.stack(outputs), order.forward)
