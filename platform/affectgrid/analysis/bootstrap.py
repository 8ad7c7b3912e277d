"""The difference of two configurations with its interval: tracks are resampled, the same for both."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from affectgrid.metrics import ccc_from_moments
from affectgrid.settings import Settings

_MIN_RESAMPLES, _MAX_RESAMPLES = 10_000, 200_000
_IN_A_TAIL = 10  # resamples beyond each end of the widest interval
_BLOCK = 10_000


class Difference(Settings):
    """P of one configuration minus P of another, each the mean over its seeds, with bootstrap percentile intervals.

    Args:
        estimate: on the tracks as they are.
        low, high: the interval at `confidence`, as if no other pair had been compared.
        low_corrected, high_corrected: at `corrected_confidence`, which allows for `num_comparisons`.
        num_tracks: that were drawn from; with few, every interval is rough.
    """

    estimate: float
    low: float
    high: float
    low_corrected: float
    high_corrected: float
    confidence: float
    corrected_confidence: float
    num_comparisons: int
    num_tracks: int
    num_seeds: int
    num_resamples: int


def sidak(confidence: float, num_comparisons: int) -> float:
    """The confidence of each of `num_comparisons` intervals that leaves `confidence` for all of them together.

    Šidák's 1 - alpha' = (1 - alpha)^(1 / m): exact for independent comparisons, conservative for positively dependent
    ones such as many configurations compared with one default on the same tracks. Bonferroni's alpha / m is a little
    wider.
    """
    if num_comparisons < 1:
        raise ValueError(f"at least one comparison is made, got {num_comparisons}")
    return float(confidence ** (1 / num_comparisons))


def paired_difference(
    one: Float[Tensor, "seed track stat 2"],
    other: Float[Tensor, "seed track stat 2"],
    *,
    num_comparisons: int = 1,
    confidence: float = 0.95,
    redraw_seeds: bool = False,
    seed: int = 0,
) -> Difference:
    """Compare two configurations, given the moments (`metrics.track_moments`) of every track under every seed.

    A resample draws whole tracks with replacement, the same ones for both; the statistic is the pooled P of each seed,
    averaged over the seeds, of `one` minus `other`. With `redraw_seeds` seeds are drawn too, so that the interval also
    says what other seeds might have given. Seeds of the two stand in one order and are drawn together.
    """
    if one.shape != other.shape or not one.numel():
        raise ValueError(f"moments of the same seeds and tracks are compared, got {one.shape} and {other.shape}")
    num_seeds, num_tracks = one.shape[:2]
    corrected = sidak(confidence, num_comparisons)
    wanted = math.ceil(2 * _IN_A_TAIL / (1 - corrected))
    num_resamples = min(_MAX_RESAMPLES, max(_MIN_RESAMPLES, wanted))
    generator = torch.Generator().manual_seed(seed)
    drawn: list[Tensor] = []
    for first in range(0, num_resamples, _BLOCK):
        count = min(_BLOCK, num_resamples - first)
        tracks = _draws(count, num_tracks, generator)
        seeds = _draws(count, num_seeds, generator) if redraw_seeds else torch.ones(count, num_seeds).double()
        difference = _p_by_seed(one, tracks) - _p_by_seed(other, tracks)
        drawn.append((difference * seeds).sum(1) / num_seeds)
    everything = torch.ones(1, num_tracks, dtype=torch.float64)
    estimate = (_p_by_seed(one, everything) - _p_by_seed(other, everything)).mean()
    low, high = _interval(torch.cat(drawn), confidence)
    low_corrected, high_corrected = _interval(torch.cat(drawn), corrected)
    return Difference(
        estimate=float(estimate),
        low=low,
        high=high,
        low_corrected=low_corrected,
        high_corrected=high_corrected,
        confidence=confidence,
        corrected_confidence=corrected,
        num_comparisons=num_comparisons,
        num_tracks=num_tracks,
        num_seeds=num_seeds,
        num_resamples=num_resamples,
    )


def _draws(count: int, size: int, generator: torch.Generator) -> Float[Tensor, "resample item"]:
    """How often each of `size` items is drawn, in `count` draws of `size` with replacement."""
    picks = torch.randint(size, (count, size), generator=generator)
    return torch.zeros(count, size, dtype=torch.float64).scatter_add_(1, picks, torch.ones(count, size).double())


def _p_by_seed(
    moments: Float[Tensor, "seed track stat 2"], tracks: Float[Tensor, "resample track"]
) -> Float[Tensor, "resample seed"]:
    """A seed at a time: all at once would be seeds x resamples x moments in memory."""
    columns = [ccc_from_moments(torch.einsum("rt,tsd->rsd", tracks, one)).mean(-1) for one in moments]
    return torch.stack(columns, 1)


def _interval(values: Float[Tensor, " resample"], confidence: float) -> tuple[float, float]:
    """Percentiles; a resample of nothing but tracks without a labelled frame has no CCC, and is left out."""
    tails = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
    low, high = torch.nanquantile(values, tails).tolist()
    return low, high
