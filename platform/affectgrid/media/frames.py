"""Reading video frames by position; a chunk read alone equals the same frames read from the start."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from affectgrid.errors import MediaError, Problem
from affectgrid.media.container import media_errors, open_media
from affectgrid.media.tracks import moving_pictures
from affectgrid.media.upright import Tilter
from affectgrid.media.video import VideoInfo

_MIN_FRAMES_TO_SEEK = 32  # frames: opening the file and seeking costs about as much as decoding these


class FrameReader:
    """Frames of one video by position. It stays open: what follows on the last read costs no seek.

    Only frames that are asked for are converted to pixels.
    """

    def __init__(self, path: Path, info: VideoInfo) -> None:
        self._path, self._info = path, info
        self._opened = contextlib.ExitStack()
        self._media: tuple[Any, Any] | None = None  # container and stream: a seek costs a third of opening them again
        self._frames: Iterator[tuple[int, Any]] | None = None
        self._next = 0  # the earliest position that `_frames` can still give
        self._converter = VideoReformatter()  # kept: FFmpeg prepares its tables once, not in every frame
        tilt_degrees = info.orientation.tilt_degrees
        self._tilter = Tilter(tilt_degrees) if tilt_degrees else None

    def read(self, positions: Iterable[int]) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
        """Yield ``(frame_index, time_s, rgb [h, w, 3])`` for ascending positions; frame_index = p + 1.

        Seeks to the last keyframe that is not after a position, unless decoding goes by it anyway. Raises MediaError
        MED-SHORT when a frame of the index does not decode, MED-DECODE when the decoder itself complains.
        """
        for position in positions:
            frame = self._find(position)
            with media_errors(self._path):
                rgb = _to_rgb(self._tilter.tilt(frame) if self._tilter else frame, self._info, self._converter)
            yield position + 1, float(self._info.frame_times_s[position]), rgb

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        self._frames = self._media = None
        self._opened.close()

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find(self, position: int) -> Any:
        """The decoded frame at a position."""
        if self._follows(position):
            found = self._advance(position)
        else:
            found = None
            for landing in _landings(position, self._info):
                if landing is None:
                    self.close()
                self._frames, self._next = self._decode(landing), 0
                try:
                    found = self._advance(position)
                except _SeekError:
                    self.close()
                if found is not None:
                    break
        if found is None:
            self.close()
            where = f"frame {position + 1} of {self._info.num_frames} does not decode"
            hint = "copy or download it again, or leave it out"
            raise MediaError(
                Problem("MED-SHORT", where=str(self._path), found=where, expected="every frame", hint=hint)
            )
        return found

    def _follows(self, position: int) -> bool:
        """Whether decoding on is the shorter way, not a jump to the last keyframe before the position."""
        if self._frames is None or position < self._next:
            return False
        keys = self._info.keyframes[self._info.keyframes <= position]
        return not self._info.in_time_order or len(keys) == 0 or keys[-1] - self._next <= _MIN_FRAMES_TO_SEEK

    def _advance(self, position: int) -> Any:
        """Decode up to a position; None where it is missing."""
        assert self._frames is not None
        for here, frame in self._frames:
            self._next = here + 1
            if here >= position:
                return frame if here == position else None
        return None

    def _open(self) -> tuple[Any, Any]:
        """The container and its pictures: as they were left, or at the beginning."""
        if self._media is None:
            container = self._opened.enter_context(open_media(self._path))
            stream = moving_pictures(self._path, container)
            stream.codec_context.thread_count = 1  # a worker has one core
            self._media = container, stream
        return self._media

    def _decode(self, landing: tuple[int, int] | None) -> Iterator[tuple[int, Any]]:
        """Decoded frames with their positions, from a landing on."""
        counted, info = 0, self._info
        with media_errors(self._path):
            container, stream = self._open()
            if landing:
                try:
                    container.seek(landing[0], stream=stream)
                except av.FFmpegError:
                    raise _SeekError from None
            packets = container.demux(stream)
            if landing:
                packets = _from_keyframe(packets, landing[1])
            for packet in packets:
                for frame in packet.decode():
                    if not info.in_time_order:
                        yield counted, frame
                        counted += 1
                    elif frame.pts is not None:
                        position = int(np.searchsorted(info.pts, frame.pts))
                        if position < info.num_frames and info.pts[position] == frame.pts:
                            yield position, frame


class _SeekError(Exception):
    """The seek failed, or landed after its target."""


def _landings(start: int, info: VideoInfo) -> Iterator[tuple[int, int] | None]:
    """Where to start decoding for position ``start``, best first: (timestamp to seek to, latest first pts), or None.

    Some demuxers seek by presentation time, some by decoding time, and some files have an index that lies; None, the
    beginning, is always right.
    """
    key = int(np.searchsorted(info.keyframes, start, side="right")) - 1
    if info.in_time_order and key > 0:
        pts = int(info.pts[info.keyframes[key]])
        yield from ((ticks, pts) for ticks in dict.fromkeys((pts, int(info.seek_to[key]))))
    yield None


def _from_keyframe(packets: Iterator[Any], pts: int) -> Iterator[Any]:
    """Packets from a keyframe on. Raises _SeekError if it does not come.

    Some demuxers (MPEG-PS) land on any packet before it, and MPEG-2 decodes pictures without what they refer to.
    """
    for packet in packets:
        if packet.is_keyframe and (packet.pts is None or packet.pts >= pts):
            if packet.pts != pts:
                break
            yield packet
            yield from packets
            return
    raise _SeekError


def _to_rgb(frame: Any, info: VideoInfo, converter: Any) -> NDArray[np.uint8]:
    rgb: NDArray[np.uint8] = converter.reformat(frame, format="rgb24").to_ndarray()
    return info.orientation.turn(rgb)
