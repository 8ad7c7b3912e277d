"""Decode a sample of a track's files, or all of them, by the functions that an encode run calls."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from affectgrid.data.catalog import Track
from affectgrid.data.features.streams import AudioStream
from affectgrid.data.leakage import Look, look_at
from affectgrid.errors import MediaError, Problem
from affectgrid.media.chunks import Crop, read_sound_chunk, read_visual_chunk, video_info
from affectgrid.media.guard import GuardedProcess
from affectgrid.media.video import VideoInfo
from affectgrid.storage import staged

_PIECE_FRAMES, _DEEP_FRAMES = 4, 16
_PIECE_HOPS, _DEEP_HOPS = 5, 600
_SMALLEST, _SPREAD = 4, 28  # crops of a sample
_SOUND = AudioStream()
_TIME_LIMIT_S, _MEMORY_LIMIT_BYTES = 300, 4 << 30  # an encode run's own defaults


class MediaReader:
    """Looks at files in a decoding process of its own, which ends with the block. Not for several threads at once.

    Args:
        crop: what an encode run would read: the crops, or the pictures of the video.
        deep: everything is decoded; else a sample that is the same every time.
    """

    def __init__(self, crop: Crop, *, deep: bool) -> None:
        self._crop, self._deep = crop, deep
        self._guard = GuardedProcess(time_limit_s=_TIME_LIMIT_S, memory_limit_bytes=_MEMORY_LIMIT_BYTES)

    def __enter__(self) -> MediaReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.close()

    def probe(self, video: Path) -> VideoInfo:
        """The index of a video. Raises MediaError."""
        info: VideoInfo = self._call(video_info, video)
        return info

    def decode(self, track: Track, info: VideoInfo | None, crops: Sequence[tuple[int, int]]) -> Iterator[Problem]:
        """The first fault of the pictures, and the first of the sound; none of what an encode run would not read.

        Args:
            info: of the track's video.
            crops: frame indices and sizes in bytes of its crops, ascending.
        """
        num_frames = info.num_frames if info else 0
        own = crops if self._crop == "crops" else ()
        if own and not self._deep:
            shown = [(index - 1, index) for index in sample_crops(own)]
        else:
            size = _DEEP_FRAMES if self._deep else _PIECE_FRAMES
            keys = info.keyframes.tolist() if info and info.in_time_order and not own else ()
            shown = pieces(max(num_frames, own[-1][0] if own else 0), size, deep=self._deep, keyframes=keys)
        mode = "crops" if self._crop == "crops" else "frame"  # a face is looked for in the whole frame
        visual = ((read_visual_chunk, (track.video, track.crops, *piece), {"crop": mode}) for piece in shown)
        yield from self._first_fault(visual)
        if info is None or info.audio is None:
            return
        num_hops = math.ceil(float(info.frame_times_s[-1]) / _SOUND.hop_s) + 1
        options = {name: getattr(_SOUND, name) for name in ("hop_s", "window_s", "sample_rate_hz")}
        heard = pieces(num_hops, _DEEP_HOPS if self._deep else _PIECE_HOPS, deep=self._deep)
        yield from self._first_fault((read_sound_chunk, (track.video, *piece), options) for piece in heard)

    def look(self, track: Track, info: VideoInfo | None) -> Look | None:
        """What the track's video looks like, or its crops without one; None where they cannot be decoded."""
        source = (track.video, None) if info else (None, track.crops)
        try:
            look: Look | None = self._call(look_at, *source)
        except MediaError:  # `decode` and `probe` have told it
            return None
        return look

    def picture(self, track: Track, position: int) -> UInt8[np.ndarray, "height width 3"] | None:
        """A frame of the track's video by its position from 0, or without a video its crop. Raises MediaError."""
        mode: Crop = "frame" if track.video else "crops"
        chunk = self._call(read_visual_chunk, track.video, track.crops, position, position + 1, crop=mode)
        return chunk.images[0] if chunk.images else None

    def _first_fault(self, calls: Iterator[tuple[Any, tuple[Any, ...], dict[str, Any]]]) -> Iterator[Problem]:
        try:
            for function, arguments, options in calls:
                self._call(function, *arguments, discard=True, **options)
        except MediaError as error:
            yield from error.problems

    def _call(self, function: Any, *arguments: Any, discard: bool = False, **options: Any) -> Any:
        with contextlib.ExitStack() as stack:  # files of a bucket are copied to this node, and stay while in use
            local = [stack.enter_context(staged(a)) if isinstance(a, Path) else a for a in arguments]
            name = f"{function.__module__}:{function.__qualname__}"
            call = self._guard.run if discard else self._guard.call
            return call(name, *[str(a) if isinstance(a, Path) else a for a in local], **options)


def sample_crops(crops: Sequence[tuple[int, int]]) -> list[int]:
    """Frame indices of a sample: the smallest files, which are the likeliest to be torn, and some evenly between ends.

    `crops`: frame indices and sizes in bytes, ascending; not empty.
    """
    smallest = [index for index, _ in sorted(crops, key=lambda crop: crop[1])[:_SMALLEST]]
    last = len(crops) - 1
    even = [crops[round(last * k / (_SPREAD - 1))][0] for k in range(_SPREAD)]
    return sorted({*smallest, *even})


def pieces(total: int, size: int, *, deep: bool, keyframes: Sequence[int] = ()) -> list[tuple[int, int]]:
    """Half-open ranges of positions: all in pieces, or the first, a middle and the last piece; one where none is.

    The middle one begins at the last of the `keyframes` before the middle, from which decoding would have to begin.
    """
    if deep:
        return [(start, min(start + size, total)) for start in range(0, max(total, 1), size)]
    middle = max(0, (total - size) // 2)
    middle = max((key for key in keyframes if key <= middle), default=middle)
    starts = sorted({0, middle, max(0, total - size)})
    return [(start, max(start + 1, min(start + size, total))) for start in starts]
