"""Tracks at a common rate, so that a window of so many frames is the same time in every video."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from affectgrid.data.splits.resident import Split

_TOLERANCE = 1e-3  # of a frame: times are stored rounded


@dataclasses.dataclass(frozen=True, eq=False)
class Sampling:
    """Which frames of a split are read at a common rate. No feature is copied: a sample is the number of a row.

    Args:
        rows: of each sample, its row in the split.
        offsets: track i has the samples offsets[i]:offsets[i + 1].
        position: of each row of the split, its place among the samples of its track, from 0; between two samples it is
            no whole number.
        causal: whether neither a sample nor a row reads what comes later.
    """

    rows: Int[Tensor, " sample"]
    offsets: Int[Tensor, " bound"]
    position: Float[Tensor, " row"]
    causal: bool

    @classmethod
    def at(cls, split: Split, rate_hz: float, *, causal: bool) -> Sampling:
        """Samples `rate_hz` a second from each track's first frame on: the frame shown then, or if not `causal` the
        nearest."""
        rows, counts, positions = [], [0], []
        for first, last in itertools.pairwise(split.offsets.tolist()):
            time_s = _whole(split.time_s[first:last], 1 / rate_hz)
            position = (time_s - time_s[0]) * rate_hz if len(time_s) else time_s
            count = int(position[-1] + _TOLERANCE) + 1 if len(position) else 0
            rows.append(first + _shown(position, count, causal=causal))
            positions.append(np.clip(position, 0, count - 1))
            counts.append(count)
        offsets = torch.as_tensor(np.cumsum(counts), dtype=torch.int64)
        return cls(_joined(rows, np.int64), offsets, _joined(positions, np.float64), causal)

    def bounds_of(self, split: Split, bounds: Int[Tensor, " bound"]) -> Int[Tensor, " bound"]:
        """The samples' bounds of consecutive tracks, given those of their rows."""
        first = int(np.searchsorted(split.offsets, int(bounds[0])))
        return self.offsets[first : first + len(bounds)]

    def to_rows(
        self, values: Float[Tensor, "sample dim"], split: Split, bounds: Int[Tensor, " bound"]
    ) -> Float[Tensor, "row dim"]:
        """What the rows of consecutive tracks have, given the `values` of those tracks' samples: those of both samples
        around a row, mixed by its distance from them, or if causal those of the one before."""
        samples = self.bounds_of(split, bounds)
        tracks = zip(itertools.pairwise(samples.tolist()), itertools.pairwise(bounds.tolist()), strict=True)
        parts = [
            _interpolated(values[begin - samples[0] : end - samples[0]], self.position[first:last], causal=self.causal)
            for (begin, end), (first, last) in tracks
        ]
        return torch.cat(parts) if parts else values[:0]


def _whole(time_s: NDArray[np.float64], step_s: float) -> NDArray[np.float64]:
    """The times of all rows, never falling; rows that the video lacks continue at its mean rate."""
    known = np.flatnonzero(np.isfinite(time_s))
    if len(known) > 1:
        step_s = float(time_s[known[-1]] - time_s[known[0]]) / int(known[-1] - known[0])
    if not len(known):
        return np.arange(len(time_s), dtype=np.float64) * np.float64(step_s)
    place = np.arange(len(time_s))
    beyond = np.minimum(place - known[0], 0) + np.maximum(place - known[-1], 0)
    filled = np.interp(place, known, time_s[known]) + beyond * step_s
    return np.maximum.accumulate(filled).astype(np.float64)


def _shown(position: NDArray[np.float64], count: int, *, causal: bool) -> NDArray[np.int64]:
    """The row of each sample: the last one not after it, or the nearest."""
    samples = np.arange(count, dtype=np.float64)
    before = np.searchsorted(position, samples + _TOLERANCE, side="right") - 1
    if causal or not count:
        return before.astype(np.int64)
    after = np.minimum(before + 1, len(position) - 1)
    nearer = position[after] - samples < samples - position[before]
    return np.where(nearer, after, before).astype(np.int64)


def _interpolated(values: Tensor, position: Tensor, *, causal: bool) -> Tensor:
    position = position.to(values.device)
    before = (position + _TOLERANCE).floor().long().clamp(max=len(values) - 1)
    if causal:
        return values[before]
    share = (position - before).clamp(min=0).unsqueeze(-1).to(values.dtype)
    return torch.lerp(values[before], values[(before + 1).clamp(max=len(values) - 1)], share)


def _joined(parts: list[NDArray[np.generic]], dtype: type[np.generic]) -> Tensor:
    return torch.as_tensor(np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype))
