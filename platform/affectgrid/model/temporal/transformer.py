"""Self-attention over time for every stream: the third way beside recurrence and convolution."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from affectgrid.model.attention import CrossModalLayer, Sight


class TransformerEncoder(nn.Module):
    """A stack of pre-norm attention layers for every stream, each of which attends to itself."""

    def __init__(
        self, num_streams: int, hidden_dim: int, num_layers: int, num_heads: int, dropout: float, *, rotary: bool
    ) -> None:
        super().__init__()
        self.streams = nn.ModuleList(
            nn.ModuleList(CrossModalLayer(hidden_dim, num_heads, dropout, rotary=rotary) for _ in range(num_layers))
            for _ in range(num_streams)
        )

    def forward(
        self, states: Float[Tensor, "stream batch frame hidden"], sight: Sight
    ) -> Float[Tensor, "stream batch frame hidden"]:
        """The states of masked frames, which `sight` leaves out, are meaningless but finite."""
        outputs = []
        for own, layers in zip(states, self.streams.children(), strict=True):
            for layer in layers.children():
                own = layer(own, own, sight)
            outputs.append(own)
        return torch.stack(outputs)
