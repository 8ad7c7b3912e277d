"""Cross-modal attention: each stream attends to the other over the same stretch of time."""

from __future__ import annotations

import dataclasses
import functools
import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from affectgrid.model.dropout import LockedDropout

FEED_FORWARD_RATIO = 2  # this project's choice: small data sets overfit the usual 4
_ROTARY_BASE = 10_000.0  # as Su et al. (2021, "RoFormer")
_BLOCK = 512  # frames that ask at a time, where the span is limited


@dataclasses.dataclass(frozen=True, eq=False)
class Sight:
    """Which frames of the other stream each frame looks at.

    Args:
        blocks: frames that ask, frames that are asked, and the mask [#batch, 1, asking, asked] between them, true where
            a frame is seen; None where all are.
    """

    blocks: tuple[tuple[slice, slice, Bool[Tensor, "#batch 1 asking asked"] | None], ...]

    @classmethod
    def over(cls, seen: Bool[Tensor, "batch frame"], *, span: int, causal: bool) -> Sight:
        """Frames with `seen` are looked at: within `span` on each side (0: no limit), and none ahead if `causal`.

        A frame always sees itself, for a row without any key would be NaN. A long track with a span is cut into blocks,
        so that memory grows with its length and not with the square of it.
        """
        num_frames = seen.shape[1]
        if torch.compiler.is_exporting():  # for any number of frames: in one piece
            whole, frames = slice(None), torch.arange(num_frames, device=seen.device)
            return cls(((whole, whole, _mask(seen, frames, frames, span=span, causal=causal)),))
        size = max(span, _BLOCK) if span and num_frames > 2 * _BLOCK else max(num_frames, 1)
        blocks = []
        for first in range(0, num_frames, size):
            asking = slice(first, min(first + size, num_frames))
            last = asking.stop if causal else min(asking.stop + span, num_frames)
            asked = slice(max(first - span, 0), last) if size < num_frames else slice(0, num_frames)
            blocks.append((asking, asked, _block_mask(seen, asking, asked, span=span, causal=causal)))
        return cls(tuple(blocks))


def _block_mask(
    seen: Bool[Tensor, "batch frame"], asking: slice, asked: slice, *, span: int, causal: bool
) -> Bool[Tensor, "#batch 1 asking asked"] | None:
    seen = seen[:, asked]
    all_seen, num_frames = bool(seen.all()), asked.stop - asked.start
    if all_seen and not causal and not 0 < span < num_frames:
        return None
    key, query = (torch.arange(part.start, part.stop, device=seen.device) for part in (asked, asking))
    return _mask(None if all_seen else seen, key, query, span=span, causal=causal)


def _mask(seen: Tensor | None, key: Tensor, query: Tensor, *, span: int, causal: bool) -> Tensor:
    """`seen` None: all of the frames with the numbers `key` are."""
    ahead = key[None, :] - query[:, None]
    allowed = torch.ones_like(ahead, dtype=torch.bool)
    if span:
        allowed &= ahead.abs() <= span
    if causal:
        allowed &= ahead <= 0
    if seen is None:
        return allowed[None, None]
    return ((allowed & seen[:, None, :]) | (ahead == 0))[:, None]


class CrossAttention(nn.Module):
    """Multi-head attention of one stream's frames to the other's.

    With `rotary` positions the product of query and key depends on how far apart the frames are (RoFormer); without
    them attention does not know the order of the frames that it sees. Without dropout of its weights, which would rule
    out the fused kernel: eight times slower on a CPU.
    """

    def __init__(self, hidden_dim: int, num_heads: int, *, rotary: bool) -> None:
        super().__init__()
        self.num_heads, self.rotary = num_heads, rotary
        self.query = nn.Linear(hidden_dim, hidden_dim)
        self.key_value = nn.Linear(hidden_dim, 2 * hidden_dim)
        self.out = nn.Linear(hidden_dim, hidden_dim)

    def forward(
        self, queries: Float[Tensor, "batch frame hidden"], keys: Float[Tensor, "batch frame hidden"], sight: Sight
    ) -> Float[Tensor, "batch frame hidden"]:
        query, key, value = self._heads_of(queries, keys)
        mixed = [
            scaled_dot_product_attention(query[:, :, asking], key[:, :, asked], value[:, :, asked], attn_mask=mask)
            for asking, asked, mask in sight.blocks
        ]
        joined: Tensor = self.out(torch.cat(mixed, 2).transpose(1, 2).flatten(2))
        return joined

    def weights(
        self, queries: Float[Tensor, "batch frame hidden"], keys: Float[Tensor, "batch frame hidden"], sight: Sight
    ) -> Float[Tensor, "batch head frame frame"]:
        """How much each frame (third axis) takes from each (last). Rows sum to 1. For a `sight` of one block.

        For plots: the fused kernel of `forward` never forms them, so they are computed again.
        """
        ((_, _, mask),) = sight.blocks
        query, key, _ = self._heads_of(queries, keys)
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        return torch.softmax(scores if mask is None else scores.masked_fill(~mask, -torch.inf), -1)

    def _heads_of(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query = self._heads(self.query(queries))
        key, value = (self._heads(part) for part in self.key_value(keys).chunk(2, -1))
        if self.rotary:
            known = _angles.__wrapped__ if torch.compiler.is_exporting() else _angles  # the number of frames is open
            angles = known(query.shape[2], query.shape[3] // 2, query.device)
            query, key = _rotate(query, *angles), _rotate(key, *angles)
        return query, key, value

    def _heads(self, states: Tensor) -> Tensor:
        batch, frames, hidden = states.shape
        return states.view(batch, frames, self.num_heads, hidden // self.num_heads).transpose(1, 2)


@functools.lru_cache(maxsize=8)
def _angles(num_frames: int, num_pairs: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine [frame, pair] of frame times frequency."""
    frequency = _ROTARY_BASE ** -(torch.arange(num_pairs, device=device) / max(num_pairs, 1))
    angle = torch.arange(num_frames, device=device)[:, None] * frequency
    return angle.cos(), angle.sin()


def _rotate(
    states: Float[Tensor, "batch head frame dim"],
    cosine: Float[Tensor, "frame pair"],
    sine: Float[Tensor, "frame pair"],
) -> Float[Tensor, "batch head frame dim"]:
    """Turn each pair of channels by its angle; a last channel without a partner stays."""
    pairs = cosine.shape[1]
    wide = states.float()
    first, second, rest = wide[..., :pairs], wide[..., pairs : 2 * pairs], wide[..., 2 * pairs :]
    turned = torch.cat([first * cosine - second * sine, second * cosine + first * sine, rest], -1)
    return turned.to(states.dtype)


class CrossModalLayer(nn.Module):
    """One direction of cross-modal attention: pre-norm, residual, then a feed-forward in the same manner."""

    def __init__(self, hidden_dim: int, num_heads: int, dropout: float, *, rotary: bool) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(hidden_dim)
        self.key_norm = nn.LayerNorm(hidden_dim)
        self.attention = CrossAttention(hidden_dim, num_heads, rotary=rotary)
        self.dropout = LockedDropout(dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(hidden_dim),
            nn.Linear(hidden_dim, FEED_FORWARD_RATIO * hidden_dim),
            nn.GELU(),
            LockedDropout(dropout),
            nn.Linear(FEED_FORWARD_RATIO * hidden_dim, hidden_dim),
            LockedDropout(dropout),
        )

    def forward(
        self,
        asking: Float[Tensor, "batch frame hidden"],
        asked: Float[Tensor, "batch frame hidden"],
        sight: Sight,
    ) -> Float[Tensor, "batch frame hidden"]:
        states: Tensor = asking + self.dropout(self.attention(self.query_norm(asking), self.key_norm(asked), sight))
        refined: Tensor = states + self.feed_forward(states)
        return refined

    def attention_weights(
        self,
        asking: Float[Tensor, "batch frame hidden"],
        asked: Float[Tensor, "batch frame hidden"],
        sight: Sight,
    ) -> Float[Tensor, "batch head frame frame"]:
        """What `forward` weighs the asked stream's frames with; see `CrossAttention.weights`."""
        return self.attention.weights(self.query_norm(asking), self.key_norm(asked), sight)
