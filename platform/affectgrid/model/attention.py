"""Cross-modal attention: each stream attends to the other over the same stretch of time."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from affectgrid.model.dropout import LockedDropout

FEED_FORWARD_RATIO = 2  # this project's choice: small data sets overfit the usual 4


def attention_mask(
    frame_mask: Bool[Tensor, "batch frame"], *, span: int, causal: bool
) -> Bool[Tensor, "batch 1 frame frame"] | None:
    """Which frame (third axis) may look at which (last); None where all may look at all.

    Real frames are seen within `span` on each side (0: no limit), and only at or before the query if `causal`. A
    masked frame is seen by itself alone: a row without any key would be NaN.
    """
    num_frames = frame_mask.shape[1]
    all_real = bool(frame_mask.all())
    if all_real and not causal and not 0 < span < num_frames:
        return None
    step = torch.arange(num_frames, device=frame_mask.device)
    ahead = step[None, :] - step[:, None]  # key minus query
    allowed = torch.ones_like(ahead, dtype=torch.bool)
    if span:
        allowed &= ahead.abs() <= span
    if causal:
        allowed &= ahead <= 0
    if all_real:
        return allowed[None, None]
    return ((allowed & frame_mask[:, None, :]) | (ahead == 0))[:, None]


class CrossAttention(nn.Module):
    """Multi-head attention of one stream's frames to the other's.

    Without dropout of its weights, which would rule out the fused kernel: eight times slower on a CPU.
    """

    def __init__(self, hidden_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(hidden_dim, hidden_dim)
        self.key_value = nn.Linear(hidden_dim, 2 * hidden_dim)
        self.out = nn.Linear(hidden_dim, hidden_dim)

    def forward(
        self,
        queries: Float[Tensor, "batch frame hidden"],
        keys: Float[Tensor, "batch frame hidden"],
        mask: Bool[Tensor, "#batch 1 frame frame"] | None,
    ) -> Float[Tensor, "batch frame hidden"]:
        query = self._heads(self.query(queries))
        key, value = (self._heads(part) for part in self.key_value(keys).chunk(2, -1))
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        joined: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return joined

    def weights(
        self,
        queries: Float[Tensor, "batch frame hidden"],
        keys: Float[Tensor, "batch frame hidden"],
        mask: Bool[Tensor, "#batch 1 frame frame"] | None,
    ) -> Float[Tensor, "batch head frame frame"]:
        """How much each frame (third axis) takes from each (last). Rows sum to 1.

        For plots: the fused kernel of `forward` never forms them, so they are computed again.
        """
        query, key = self._heads(self.query(queries)), self._heads(self.key_value(keys).chunk(2, -1)[0])
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        return torch.softmax(scores if mask is None else scores.masked_fill(~mask, -torch.inf), -1)

    def _heads(self, states: Tensor) -> Tensor:
        batch, frames, hidden = states.shape
        return states.view(batch, frames, self.num_heads, hidden // self.num_heads).transpose(1, 2)


class CrossModalLayer(nn.Module):
    """One direction of cross-modal attention: pre-norm, residual, then a feed-forward in the same manner."""

    def __init__(self, hidden_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(hidden_dim)
        self.key_norm = nn.LayerNorm(hidden_dim)
        self.attention = CrossAttention(hidden_dim, num_heads)
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
        mask: Bool[Tensor, "#batch 1 frame frame"] | None,
    ) -> Float[Tensor, "batch frame hidden"]:
        states: Tensor = asking + self.dropout(self.attention(self.query_norm(asking), self.key_norm(asked), mask))
        refined: Tensor = states + self.feed_forward(states)
        return refined

    def attention_weights(
        self,
        asking: Float[Tensor, "batch frame hidden"],
        asked: Float[Tensor, "batch frame hidden"],
        mask: Bool[Tensor, "#batch 1 frame frame"] | None,
    ) -> Float[Tensor, "batch head frame frame"]:
        """What `forward` weighs the asked stream's frames with; see `CrossAttention.weights`."""
        return self.attention.weights(self.query_norm(asking), self.key_norm(asked), mask)
