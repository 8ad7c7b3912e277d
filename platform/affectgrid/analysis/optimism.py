"""How far the best of many configurations flatters itself, because it was picked on the videos that score it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from affectgrid.metrics import ccc_from_moments

_NUM_SPLITS = 500
_MIN_VIDEOS = 8  # halves of fewer say nothing


def choice_optimism(configurations: Sequence[Float[Tensor, "seed video stat 2"]], *, seed: int = 0) -> float | None:
    """P of the best configuration minus what it would have on other videos; None for fewer than two, or few videos.

    The videos are split in two at random, again and again: the best on one half loses, on the other, what the choice
    had given it. Halves are noisier than the whole by the square root of 2, and so is their optimism. Luck of training
    that is alike in both halves is not seen: fresh seeds show that (`analysis.confirmation`).

    Args:
        configurations: the moments of every raw video under each seed of each configuration.
    """
    if len(configurations) < 2 or configurations[0].shape[1] < _MIN_VIDEOS:
        return None
    num_videos, generator = configurations[0].shape[1], torch.Generator().manual_seed(seed)
    half = torch.zeros(_NUM_SPLITS, num_videos, dtype=torch.float64)
    order = torch.stack([torch.randperm(num_videos, generator=generator) for _ in range(_NUM_SPLITS)])
    half.scatter_(1, order[:, : num_videos // 2], 1.0)
    on_half, on_other = (
        torch.stack([_p(moments, weights) for moments in configurations], 1) for weights in (half, 1 - half)
    )
    best = on_half.nan_to_num(-math.inf).argmax(1, keepdim=True)
    lost = (on_half.gather(1, best) - on_other.gather(1, best)).nanmean()
    return float(lost) / math.sqrt(2)


def _p(moments: Float[Tensor, "seed video stat 2"], weights: Float[Tensor, "split video"]) -> Float[Tensor, " split"]:
    pooled = torch.einsum("rv,kvsd->rksd", weights, moments)
    return ccc_from_moments(pooled).mean((1, 2))
