"""Concordance from mergeable moments, error per region, and intervals by resampling tracks.

Lin's concordance correlation coefficient, with population moments:
``CCC(x, y) = 2 cov(x, y) / (var(x) + var(y) + (mean(x) - mean(y))^2)``.
It is always computed over the frames of a whole split, so batches, workers and tracks exchange moments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Metrics = dict[str, float]  # name -> value, of an epoch, a run or a trial
NUM_STATS = 6  # rows of a moments tensor: count, sum p, sum t, sum p^2, sum t^2, sum p t (p: prediction, t: target)

# Below this share of the mean squares, the denominator is rounding noise of the raw sums: both series are one constant.
CONSTANT_SHARE = 1e-13


def batch_moments(
    prediction: Float[Tensor, "*batch dim"], target: Float[Tensor, "*batch dim"], mask: Bool[Tensor, "*batch"]
) -> Float[Tensor, "stat dim"]:
    """Raw sums over the frames where `mask` is true, in float64 and differentiable.

    Rows: count, sum p, sum t, sum p^2, sum t^2, sum p t. Sums of parts add up to the sums of the whole, so they
    merge by addition or all-reduce; in float64 and for values near [-1, 1] raw sums are accurate enough.
    Values under the mask are never read, NaN included.
    """
    keep = mask.unsqueeze(-1)
    p = torch.where(keep, prediction, 0).double().flatten(0, -2)
    t = torch.where(keep, target, 0).double().flatten(0, -2)
    count = mask.sum().double().expand(p.shape[-1])
    return torch.stack([count, p.sum(0), t.sum(0), p.square().sum(0), t.square().sum(0), (p * t).sum(0)])


def ccc_from_moments(moments: Float[Tensor, "*batch stat dim"]) -> Float[Tensor, "*batch dim"]:
    """CCC of every dimension; differentiable.

    0 where the prediction or the target is constant, even where both are the same constant (0/0: a constant shows no
    concordance). NaN where no frame was counted.
    """
    count, sum_p, sum_t, sum_pp, sum_tt, sum_pt = moments.unbind(-2)
    n = count.clamp(min=1)
    mean_p, mean_t = sum_p / n, sum_t / n
    covariance = sum_pt / n - mean_p * mean_t  # over n, as Lin defines it; n - 1 is the sample's
    mean_squares = (sum_pp + sum_tt) / n
    # var p + var t + (mean p - mean t)^2, with the squared means cancelled
    denominator = mean_squares - 2 * mean_p * mean_t
    defined = denominator > CONSTANT_SHARE * mean_squares
    # where() twice: a division by zero in the branch not taken would still put NaN into the gradient
    ccc = torch.where(defined, 2 * covariance / torch.where(defined, denominator, 1), 0)
    return torch.where(count > 0, ccc, torch.nan)


def ccc(
    prediction: Float[Tensor, "*frame"], target: Float[Tensor, "*frame"], mask: Bool[Tensor, "*frame"] | None = None
) -> Float[Tensor, ""]:
    """CCC of two series over the frames where `mask` is true (None: all), in the prediction's dtype.

    0 for a constant series, NaN without a frame. Computed in float64.
    """
    if mask is None:
        mask = torch.ones_like(target, dtype=torch.bool)
    moments = batch_moments(prediction.reshape(-1, 1), target.reshape(-1, 1), mask.reshape(-1))
    return ccc_from_moments(moments)[0].to(prediction.dtype)


class CccAccumulator:
    """CCC over any number of batches, in any order, split over any number of workers."""

    def __init__(self, num_dims: int = 2) -> None:
        self._moments = torch.zeros(NUM_STATS, num_dims, dtype=torch.float64)

    def update(
        self,
        prediction: Float[Tensor, "*batch dim"],
        target: Float[Tensor, "*batch dim"],
        mask: Bool[Tensor, "*batch"],
    ) -> None:
        """Count the frames where `mask` is true. Detaches; stays on the device of the latest batch."""
        moments = batch_moments(prediction.detach(), target, mask)
        self._moments = self._moments.to(moments.device) + moments

    def merge(self, other: CccAccumulator) -> None:
        """Add the counts of another accumulator."""
        self._moments = self._moments + other._moments.to(self._moments.device)

    @property
    def num_frames(self) -> int:
        return int(self._moments[0, 0])

    def compute(self) -> Float[Tensor, dim]:
        """CCC of each dimension in float64: 0 for a constant series, NaN before the first frame."""
        return ccc_from_moments(self._moments)

    def state(self) -> Float[Tensor, flat]:
        """The moments as one flat float64 tensor. States add: all-reduce their sum, or gather and add them."""
        return self._moments.flatten().clone()

    @classmethod
    def from_state(cls, state: Float[Tensor, flat]) -> CccAccumulator:
        """The accumulator whose `state()` this is, or the sum of several."""
        if state.numel() % NUM_STATS:
            raise ValueError(f"a state holds {NUM_STATS} numbers per dimension, got {state.numel()}")
        accumulator = cls(state.numel() // NUM_STATS)
        accumulator._moments = state.detach().double().reshape(NUM_STATS, -1).clone()
        return accumulator


class Partition(Protocol):
    """What `region_scores` needs of a grid; `regions.RegionGrid` provides it."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def nearest(self, va: Float[Tensor, "*batch 2"]) -> Int[Tensor, "*batch"]: ...


@dataclasses.dataclass(frozen=True)
class RegionScore:
    """Error over the frames whose target lies in one region. Without a frame the errors are NaN.

    Args:
        name: the region's.
        support: number of frames.
        share: support over all counted frames.
        mae: mean absolute error, over frames and both axes.
        rmse: root of the mean squared error, over frames and both axes.
    """

    name: str
    support: int
    share: float
    mae: float
    rmse: float


def region_scores(
    prediction: Float[Tensor, "*batch 2"],
    target: Float[Tensor, "*batch 2"],
    mask: Bool[Tensor, "*batch"],
    grid: Partition,
) -> list[RegionScore]:
    """Support and error per region, in region order; a frame belongs to the region of its target."""
    p, t = prediction[mask].double(), target[mask].double()
    region, num_regions = grid.nearest(t), len(grid.names)
    support = torch.bincount(region, minlength=num_regions).double()
    absolute = torch.bincount(region, (p - t).abs().mean(-1), num_regions) / support
    squared = torch.bincount(region, (p - t).square().mean(-1), num_regions) / support
    share = support / support.sum()
    columns = (support.int().tolist(), share.tolist(), absolute.tolist(), squared.sqrt().tolist())
    return [RegionScore(*row) for row in zip(grid.names, *columns, strict=True)]


@dataclasses.dataclass(frozen=True)
class Interval:
    """A score with its bootstrap percentile interval."""

    estimate: float
    low: float
    high: float
    confidence: float


@dataclasses.dataclass(frozen=True)
class CccIntervals:
    """CCC of valence, of arousal, and P, their mean."""

    valence: Interval
    arousal: Interval
    p: Interval


def track_moments(
    tracks: Sequence[tuple[Float[Tensor, "frame 2"], Float[Tensor, "frame 2"], Bool[Tensor, frame]]],
) -> Float[Tensor, "track stat 2"]:
    """`batch_moments` of every (prediction, target, mask)."""
    if not tracks:
        return torch.zeros(0, NUM_STATS, 2, dtype=torch.float64)
    return torch.stack([batch_moments(prediction.detach(), target, mask) for prediction, target, mask in tracks])


def bootstrap_ccc(
    moments: Float[Tensor, "unit stat 2"], *, num_resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> CccIntervals:
    """Percentile intervals of the pooled CCC, by drawing whole units with replacement: raw videos, or tracks.

    The frames of a video are far from independent, nor are two people's, so resampling frames or faces would give
    intervals much too narrow. Only moments are resampled, so the cost does not grow with the videos' length. NaN
    without a valid frame.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    moments, num_units = moments.cpu(), len(moments)
    draws = torch.zeros(num_resamples, num_units, dtype=torch.float64)
    if num_units:
        generator = torch.Generator().manual_seed(seed)
        picks = torch.randint(num_units, (num_resamples, num_units), generator=generator)
        draws.scatter_add_(1, picks, torch.ones_like(draws))
    resampled = ccc_from_moments(torch.einsum("rt,tsd->rsd", draws, moments))
    estimate = ccc_from_moments(moments.sum(0))
    columns = torch.column_stack([resampled, resampled.mean(-1)])
    tails = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
    # a resample may hold only units without a valid frame: it has no CCC, and is left out
    low, high = torch.nanquantile(columns, tails, dim=0).tolist() if num_resamples else [[torch.nan] * 3] * 2
    estimates = [*estimate.tolist(), estimate.mean().item()]
    return CccIntervals(*(Interval(e, lo, hi, confidence) for e, lo, hi in zip(estimates, low, high, strict=True)))
