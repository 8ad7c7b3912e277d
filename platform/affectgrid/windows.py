"""Cut tracks into windows, merge overlapping predictions, smooth over time. All in torch; rows are 0-based."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from affectgrid.errors import ConfigError, Problem


def cut(num_frames: int, length: int, stride: int) -> list[tuple[int, int]]:
    """Half-open spans of `length` frames, `stride` apart, that cover every frame.

    The last one ends at `num_frames`, so it may overlap its neighbour by more than the others do. A track shorter than
    `length` is one short span; an empty one has none.
    Raises ConfigError (CFG-WINDOW) unless 0 < stride <= length: a longer stride would skip frames.
    """
    if not 0 < stride <= length:
        found = f"length {length}, stride {stride}"
        raise ConfigError(
            Problem(
                "CFG-WINDOW",
                where="window.stride",
                found=found,
                expected="0 < stride <= length",
                hint="lower the stride",
            )
        )
    if num_frames <= 0:
        return []
    last = max(num_frames - length, 0)
    return [(start, min(start + length, num_frames)) for start in (*range(0, last, stride), last)]


@dataclasses.dataclass(frozen=True)
class WindowIndex:
    """Every window of a split, as rows of its contiguous arrays.

    Args:
        start: first row.
        stop: row after the last; at most `length` after start.
        track: number of the window's track; windows never cross tracks.
        length: frames that a padded window holds.
    """

    start: Int[Tensor, window]
    stop: Int[Tensor, window]
    track: Int[Tensor, window]
    length: int

    @classmethod
    def over(cls, offsets: Sequence[int] | Int[Tensor, bound], length: int, stride: int) -> WindowIndex:
        """Cut every track; track i holds the rows from offsets[i] up to offsets[i + 1]."""
        bounds = [int(offset) for offset in offsets]
        spans = [
            (first + start, first + stop, track)
            for track, (first, end) in enumerate(itertools.pairwise(bounds))
            for start, stop in cut(end - first, length, stride)
        ]
        start, stop, track = torch.tensor(spans, dtype=torch.int64).reshape(-1, 3).unbind(1)
        return cls(start, stop, track, length)

    def __len__(self) -> int:
        return len(self.start)

    @property
    def spans(self) -> Int[Tensor, "window 2"]:
        """(start, stop) of every window: what `merge_windows` takes."""
        return torch.stack([self.start, self.stop], 1)

    def rows(self, windows: Int[Tensor, batch]) -> tuple[Int[Tensor, "batch frame"], Bool[Tensor, "batch frame"]]:
        """Rows to gather for these windows, and which of them are real; padding repeats the window's last row."""
        position = self.start[windows, None] + torch.arange(self.length)
        stop = self.stop[windows, None]
        return position.minimum(stop - 1), position < stop


def merge_windows(
    predictions: Float[Tensor, "window length dim"],
    spans: Int[Tensor, "window 2"] | Sequence[tuple[int, int]],
    num_frames: int,
) -> Float[Tensor, "frame dim"]:
    """Weighted mean of overlapping windows, with less weight towards a window's ends, where it has less context.

    The weight is a triangle, min(k + 1, n - k) for frame k of a window of n; it is never 0, so a frame that only one
    window covers keeps that window's value. Rows past a window's span are padding and are never read.
    Rows may be those of one track or of a whole split. Raises ValueError where a frame has no window.
    """
    bounds = torch.as_tensor(spans, dtype=torch.int64, device=predictions.device).reshape(-1, 2)
    offset = torch.arange(predictions.shape[1], device=predictions.device)
    size = bounds[:, 1:] - bounds[:, :1]
    if size.numel() and int(size.max()) > predictions.shape[1]:
        raise ValueError(f"a span of {int(size.max())} frames, but windows of {predictions.shape[1]}")
    real = offset < size
    weight = torch.minimum(offset + 1, size - offset)[real].double()
    row = (bounds[:, :1] + offset)[real]
    total = torch.zeros(num_frames, dtype=torch.float64, device=predictions.device).index_add_(0, row, weight)
    if not bool((total > 0).all()):
        raise ValueError(f"{int((total == 0).sum())} of {num_frames} frames are in no window")
    merged = total.new_zeros(num_frames, predictions.shape[-1])
    merged.index_add_(0, row, predictions[real].double() * weight[:, None])
    return (merged / total[:, None]).to(predictions.dtype)


def smooth(
    values: Float[Tensor, "frame dim"],
    half_width: int,
    mask: Bool[Tensor, frame] | None = None,
    *,
    causal: bool = False,
    kernel: Literal["mean", "gaussian", "exponential"] = "mean",
) -> Float[Tensor, "frame dim"]:
    """Moving mean of one track over each frame and `half_width` frames on each side, or before it alone if `causal`.

    A `kernel` that is not flat weighs a frame by its distance: a Gaussian with a deviation, or an exponential with a
    time constant, of half the half-width.
    At the ends, and where `mask` is false, the mean is over the remaining frames; values under the mask are never read
    into it. A frame with no valid frame in reach keeps its own value. Raises ValueError if half_width < 0.
    """
    if half_width < 0:
        raise ValueError(f"half_width must be >= 0, got {half_width}")
    if half_width == 0:
        return values
    num_frames = len(values)
    valid = torch.ones_like(values[:, 0], dtype=torch.bool) if mask is None else mask
    kept = torch.cat([torch.where(valid[:, None], values, 0), valid[:, None]], 1).double()
    if kernel != "mean":
        return _weighted_mean(values, kept, half_width, causal=causal, gaussian=kernel == "gaussian")
    sums = torch.cat([kept.new_zeros(1, kept.shape[1]), kept.cumsum(0)])  # float64: differences of long sums
    position = torch.arange(num_frames, device=values.device)
    high = (position + (0 if causal else half_width) + 1).clamp(max=num_frames)
    low = (position - half_width).clamp(min=0)
    reach = sums[high] - sums[low]
    count = reach[:, -1:]
    return torch.where(count > 0, (reach[:, :-1] / count.clamp(min=1)).to(values.dtype), values)


def _weighted_mean(
    values: Float[Tensor, "frame dim"],
    kept: Float[Tensor, "frame sums"],
    half_width: int,
    *,
    causal: bool,
    gaussian: bool,
) -> Float[Tensor, "frame dim"]:
    distance = torch.arange(-half_width, half_width + 1, dtype=torch.float64, device=values.device) / (half_width / 2)
    weights = torch.exp(-0.5 * distance.square() if gaussian else -distance.abs())
    if causal:
        weights[half_width + 1 :] = 0  # of later frames
    sums = torch.nn.functional.conv1d(kept.T.unsqueeze(1), weights[None, None], padding=half_width).squeeze(1).T
    total = sums[:, -1:]
    return torch.where(total > 0, (sums[:, :-1] / total.clamp(min=1e-300)).to(values.dtype), values)


def delay(values: Float[Tensor, "frame dim"], frames: int) -> Float[Tensor, "frame dim"]:
    """One track, `frames` later: each frame has the value of that many before it, the first ones that of the first."""
    place = (torch.arange(len(values), device=values.device) - frames).clamp(min=0)
    return values[place]
