"""What a track has to encode, and which frames a rate takes. Loading features needs this and no decoder."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

LAST_FRAME = 10**7  # of any track: 46 hours at 60 frames/s. More is an error in a name or a cell, and costs memory


@dataclasses.dataclass(frozen=True)
class Source:
    """What a track has to be encoded from, as its files say.

    Args:
        num_frames: frames of the video, or the highest crop where there is no video.
        duration_s: time of the video's last frame on the container's clock; 0 without a video.
        has_sound: whether the video has a sound track.
        digest: sha256 (hex) of the video's bytes, and of the crops' names and sizes.
        keyframes: positions where decoding can begin, ascending; empty where it cannot be told.
        last_crop: the highest crop; it may lie beyond the video's end, where another decoder has counted more frames.
    """

    num_frames: int
    duration_s: float
    has_sound: bool
    digest: str
    keyframes: tuple[int, ...] = ()
    last_crop: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "keyframes", tuple(self.keyframes))  # JSON, where it was kept, has lists


def nearest_frames(times_s: NDArray[np.float64], rate_hz: float, *, causal: bool = False) -> NDArray[np.int64]:
    """Positions of the frames nearest to the times first, first + 1 / rate_hz, ...; ascending, and the last frame.

    If `causal` those shown at these times, which began before or with them; and not the last frame besides. With the
    last frame every other one lies between two of these. A rate above the video's own takes every frame; of two equally
    near ones the earlier. Times must ascend.
    """
    if len(times_s) == 0:
        return np.zeros(0, np.int64)
    grid = times_s[0] + np.arange(int((times_s[-1] - times_s[0]) * rate_hz + 1e-9) + 1) / rate_hz
    right = np.clip(np.searchsorted(times_s, grid), 1, max(1, len(times_s) - 1)) if len(times_s) > 1 else 0 * grid
    right = right.astype(np.int64)
    left = np.maximum(right - 1, 0)
    if causal:
        return np.unique(np.searchsorted(times_s, grid + 1e-9, side="right") - 1)
    near = np.where(grid - times_s[left] <= times_s[right] - grid, left, right)
    return np.unique(np.append(near, len(times_s) - 1))
