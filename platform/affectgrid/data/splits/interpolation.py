"""Features at the times of frames: between the hops of a stream, or between the frames that were encoded."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from affectgrid.data.features.table import FeatureTable
from affectgrid.media.sampling import nearest_frames

_BLOCK_ROWS = 256
_CLOCK_S = 1e-9  # times of frames and of hops are sums of their own


def fill_between(visual: FeatureTable, rate_hz: float, *, causal: bool = False) -> FeatureTable:
    """Interpolate the frames that were not encoded: linear in time between those at `rate_hz` on both sides.

    If `causal` each has the features of the last one before it, and is present where that is. Otherwise present where
    both are: a face that was not found leaves a gap as wide as the grid's spacing, not one frame.
    """
    timed = np.isfinite(visual.time_s)
    if not timed.any():
        return visual  # without a clock there is no grid, and every frame was encoded
    chosen = np.flatnonzero(timed)[nearest_frames(visual.time_s[timed], rate_hz, causal=causal)]
    feature, present = interpolate(visual.rows(chosen), visual.time_s, hold=causal)
    return dataclasses.replace(visual, feature=feature, present=present)


def interpolate(
    hops: FeatureTable, time_s: NDArray[np.float64], *, hold: bool = False
) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Features at the given times, linear between hops: float16 [time, dim], 0 where not present, and bool [time].

    Present where the hops on both sides are (at a hop: where that one is), within the span of the hops; never at NaN.
    With `hold` each time has the last hop at or before it, and those after the last hop have that.
    """
    feature, present = np.zeros((len(time_s), hops.dim), np.float16), np.zeros(len(time_s), np.bool_)
    interpolate_into(hops, time_s, feature, present, hold=hold)
    return feature, present


def interpolate_into(
    hops: FeatureTable,
    time_s: NDArray[np.float64],
    feature: NDArray[np.float16],
    present: NDArray[np.bool_],
    *,
    hold: bool,
) -> None:
    """As ``interpolate``, into arrays of zeros; in blocks, since the arithmetic is in float64."""
    if not hops.present.any():
        return
    end_s = np.inf if hold else hops.time_s[-1]
    inside = np.flatnonzero((time_s >= hops.time_s[0]) & (time_s <= end_s))
    if not len(inside):
        return
    for block in np.split(inside, range(_BLOCK_ROWS, len(inside), _BLOCK_ROWS)):
        times = time_s[block]
        if hold:
            left = right = np.searchsorted(hops.time_s, times + _CLOCK_S, side="right") - 1
        else:
            right = np.searchsorted(hops.time_s, times)
            left = np.where(hops.time_s[right] == times, right, right - 1)
        gap_s = hops.time_s[right] - hops.time_s[left]
        weight = np.divide(times - hops.time_s[left], gap_s, out=np.zeros(len(times)), where=gap_s > 0)[:, None]
        both = hops.present[left] & hops.present[right]
        present[block] = both
        first = int(left.min())
        near = hops.feature[first : int(right.max()) + 1].astype(np.float64)  # once per hop, not once per frame
        mixed = near[left - first] * (1 - weight)
        mixed += near[right - first] * weight
        mixed[~both] = 0
        feature[block] = mixed


def hold_hops(
    hop_s: NDArray[np.float64], present: NDArray[np.bool_], feature: NDArray[np.float16], time_s: NDArray[np.float64]
) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """The last hop at or before each time, as ``interpolate`` with `hold` gives it; not present before the first."""
    last = np.searchsorted(hop_s, time_s + _CLOCK_S, side="right") - 1
    heard = (last >= 0) & np.concatenate([present, [False]])[last]
    held = np.zeros((len(time_s), feature.shape[1]), np.float16)
    held[heard] = feature[last[heard]]
    return held, heard
