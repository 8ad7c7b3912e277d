"""A selective state space for every stream: recurrence whose memory depends on what it reads."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad, silu, softplus

from affectgrid.model.dropout import LockedDropout
from affectgrid.model.temporal.recurrent import FrameOrder, in_order, out_of_order

_CHUNK = 64  # frames that are computed as one matrix product; the state is carried from one chunk to the next
_TAPS = 4  # of the short convolution before the recurrence, as in Mamba
_STEP_BOUNDS = (1e-3, 1e-1)  # of the initial step sizes, as in Mamba


def selective_scan(
    values: Float[Tensor, "batch frame head dim"],
    log_decay: Float[Tensor, "batch frame head"],
    write: Float[Tensor, "batch frame state"],
    read: Float[Tensor, "batch frame state"],
) -> Float[Tensor, "batch frame head dim"]:
    """y_t = S_t read_t with S_t = exp(log_decay_t) S_(t-1) + values_t write_t^T, from S = 0; one S for every head.

    The chunked form of Dao and Gu (2024, "Transformers are SSMs"), in plain torch: within a chunk a masked matrix
    product, between chunks a loop. `log_decay` is at most 0; `write` and `read` are shared by the heads.
    """
    num_frames = values.shape[1]
    extra = -num_frames % _CHUNK
    values, write, read = (pad(part, (0, 0) * (part.dim() - 2) + (0, extra)) for part in (values, write, read))
    values, write, read, decays = (
        part.reshape(len(part), -1, _CHUNK, *part.shape[2:])
        for part in (values, write, read, pad(log_decay, (0, 0, 0, extra)))
    )
    total = decays.cumsum(2)  # [batch, chunk, frame, head]
    later = torch.ones(_CHUNK, _CHUNK, dtype=torch.bool, device=values.device).triu(1)
    between = (total.unsqueeze(3) - total.unsqueeze(2)).masked_fill(later[:, :, None], -torch.inf).exp()
    within = torch.einsum("bcis,bcjs,bcijh,bcjhd->bcihd", read, write, between, values)
    left = (total[:, :, -1:] - total).exp()  # what is left of each frame at the end of its chunk
    added = torch.einsum("bcjs,bcjh,bcjhd->bchds", write, left, values)
    state, before = torch.zeros_like(added[:, 0]), []
    for chunk, decay in zip(added.unbind(1), total[:, :, -1].exp().unbind(1), strict=True):
        before.append(state)
        state = state * decay[..., None, None] + chunk
    carried = torch.einsum("bcis,bcih,bchds->bcihd", read, total.exp(), torch.stack(before, 1))
    return (within + carried).flatten(1, 2)[:, :num_frames]


class SelectiveLayer(nn.Module):
    """One direction of one layer, after Mamba-2: a short convolution, a selective recurrence and a gate, pre-norm."""

    def __init__(self, hidden_dim: int, num_heads: int, state_dim: int) -> None:
        super().__init__()
        self.num_heads, self.sizes = num_heads, (hidden_dim, hidden_dim, state_dim, state_dim, num_heads)
        self.norm = nn.LayerNorm(hidden_dim)
        self.enter = nn.Linear(hidden_dim, sum(self.sizes), bias=False)
        self.taps = nn.Parameter(torch.empty(hidden_dim, 1, _TAPS).uniform_(-(_TAPS**-0.5), _TAPS**-0.5))
        step = torch.empty(num_heads).uniform_(*(math.log(bound) for bound in _STEP_BOUNDS)).exp()
        self.step_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # softplus of it is `step`
        self.log_rate = nn.Parameter(torch.empty(num_heads).uniform_(1, 16).log())
        self.skip = nn.Parameter(torch.ones(num_heads, 1))
        self.leave = nn.Linear(hidden_dim, hidden_dim, bias=False)

    def forward(self, states: Float[Tensor, "batch frame hidden"]) -> Float[Tensor, "batch frame hidden"]:
        """What is to be added to `states`; a frame depends on itself and earlier ones."""
        values, gate, write, read, step = self.enter(self.norm(states)).split(self.sizes, -1)
        near = conv1d(pad(values.transpose(1, 2), (_TAPS - 1, 0)), self.taps, groups=values.shape[-1])
        heads = silu(near.transpose(1, 2)).reshape(*states.shape[:-1], self.num_heads, -1)
        size = softplus(step + self.step_bias)
        mixed = selective_scan(heads * size.unsqueeze(-1), -size * self.log_rate.exp(), write, read)
        added: Tensor = self.leave((mixed + self.skip * heads).flatten(-2) * silu(gate))
        return added


class StateSpaceEncoder(nn.Module):
    """A stack of selective layers for every stream; one that looks both ways adds a layer that runs backwards.

    Masked frames influence no other frame, and the states returned for them are meaningless but finite.
    """

    def __init__(
        self,
        num_streams: int,
        hidden_dim: int,
        num_layers: int,
        num_heads: int,
        state_dim: int,
        dropout: float,
        *,
        causal: bool,
    ) -> None:
        super().__init__()
        self.num_directions = 1 if causal else 2
        self.streams = nn.ModuleList(
            nn.ModuleList(
                SelectiveLayer(hidden_dim, num_heads, state_dim) for _ in range(num_layers * self.num_directions)
            )
            for _ in range(num_streams)
        )
        self.dropout = LockedDropout(dropout)

    def forward(
        self, states: Float[Tensor, "stream batch frame hidden"], order: FrameOrder
    ) -> Float[Tensor, "stream batch frame hidden"]:
        outputs = []
        for own, layers in zip(in_order(states, order.forward), self.streams.children(), strict=True):
            directions = list(layers.children())
            while directions:
                added = directions.pop(0)(own)
                if self.num_directions == 2:
                    added = added + _backwards(directions.pop(0), own, order)
                own = own + self.dropout(added)
            outputs.append(own)
        return out_of_order(torch.stack(outputs), order.forward)


def _backwards(
    layer: nn.Module, states: Float[Tensor, "batch frame hidden"], order: FrameOrder
) -> Float[Tensor, "batch frame hidden"]:
    """The layer over the real frames from the last to the first; they come first in `states`, padding after them."""
    if order.real is None:
        flipped: Tensor = layer(states.flip(1)).flip(1)
        return flipped
    count = order.real.sum(1, keepdim=True)
    step = torch.arange(states.shape[1], device=states.device)
    mirror = torch.where(order.real, count - 1 - step, step).unsqueeze(-1).expand_as(states)
    added: Tensor = layer(states.gather(1, mirror)).gather(1, mirror)
    return added
