"""Frames and sound of a camera, a network stream or a file as they come."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import sys
import threading
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
from jaxtyping import Float, UInt8

from affectgrid.errors import MediaError, Problem
from affectgrid.media.container import open_media

_CAMERAS = {"linux": ("/dev/video{}", "v4l2"), "darwin": ("{}", "avfoundation")}  # by platform: name, FFmpeg's format
_TIMEOUT_S = 10.0  # for a stream to open, and between two of its packets


@dataclasses.dataclass(frozen=True, eq=False)
class CapturedFrame:
    """A picture.

    Args:
        time_s: on the source's clock, from its first picture.
        arrived_s: on this machine's monotonic clock.
        rgb: of the picture as it is shown.
    """

    time_s: float
    arrived_s: float
    rgb: UInt8[np.ndarray, "height width 3"]


class Capture:
    """Reads a source in a thread of its own. What is not taken in time is dropped, the oldest first.

    Args:
        source: number of a camera, ``rtsp://...``, or a file, which is read at its own pace.
        sample_rate_hz: of the sound that is given.
        most_waiting: frames that wait to be taken.

    Raises MediaError (MED-SOURCE) where it does not open, also from `take` when it breaks off.
    """

    def __init__(self, source: str, *, sample_rate_hz: int = 16_000, most_waiting: int = 12) -> None:
        self.num_dropped = 0
        self._source, self._rate = source, sample_rate_hz
        self._frames: collections.deque[CapturedFrame] = collections.deque()
        self._sound: list[tuple[float, Float[np.ndarray, " sample"]]] = []
        self._most_waiting = most_waiting
        self._changed, self._ended = threading.Condition(), threading.Event()
        self._failure: MediaError | None = None
        self._stack = contextlib.ExitStack()
        self._container = self._open()
        if not self._container.streams.video:
            self._stack.close()
            raise _not_opened(source, "no picture in it")
        self._thread = threading.Thread(target=self._read, name="capture", daemon=True)

    def __enter__(self) -> Capture:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=_TIMEOUT_S)
        self._stack.close()

    def take(self) -> tuple[list[CapturedFrame], list[tuple[float, Float[np.ndarray, " sample"]]]]:
        """Wait for frames; returns all that wait, and the sound since the last call with the time that it begins.

        No frame: the source has ended.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._ended.is_set())
            if self._failure and not self._frames:
                raise self._failure
            frames, sound = list(self._frames), self._sound
            self._frames.clear()
            self._sound = []
        return frames, sound

    def _open(self) -> Any:
        source = self._source
        try:
            if source.isdecimal():
                if sys.platform not in _CAMERAS:
                    raise _not_opened(source, f"no camera by number on {sys.platform}")
                name, kind = _CAMERAS[sys.platform]
                return self._stack.enter_context(av.open(name.format(source), format=kind, timeout=_TIMEOUT_S))
            if source.startswith(("rtsp://", "rtsps://")):
                tcp = {"rtsp_transport": "tcp"}  # UDP loses packets, and each costs pictures up to the next keyframe
                return self._stack.enter_context(av.open(source, options=tcp, timeout=_TIMEOUT_S))
            return self._stack.enter_context(open_media(Path(source)))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise _not_opened(source, str(error)) from error

    @property
    def sound_rate_hz(self) -> int | None:
        """Of the sound before it is resampled; None without sound."""
        sounds = self._container.streams.audio
        return int(sounds[0].rate) if sounds else None

    @property
    def _is_live(self) -> bool:
        return self._source.isdecimal() or "://" in self._source

    def _read(self) -> None:
        try:
            self._read_all()
        except (av.FFmpegError, OSError, ValueError) as error:
            self._failure = _not_opened(self._source, f"it broke off: {error}")
        finally:
            with self._changed:
                self._ended.set()
                self._changed.notify_all()

    def _read_all(self) -> None:
        container, started_s = self._container, time.monotonic()
        picture = container.streams.video[0]
        sound = container.streams.audio[0] if container.streams.audio else None
        resampler = av.AudioResampler(format="flt", layout="mono", rate=self._rate)
        origin_s: float | None = None
        for packet in container.demux([stream for stream in (picture, sound) if stream is not None]):
            for frame in packet.decode():
                if self._ended.is_set():
                    return
                origin_s = frame.time if origin_s is None else origin_s
                time_s = (frame.time or 0.0) - (origin_s or 0.0)
                if isinstance(frame, av.AudioFrame):
                    parts = [part.to_ndarray()[0] for part in resampler.resample(frame)]
                    with self._changed:
                        self._sound += [(time_s, part) for part in parts]
                    continue
                if not self._is_live:
                    self._ended.wait(max(0.0, started_s + time_s - time.monotonic()))
                self._put(CapturedFrame(time_s, time.monotonic(), frame.to_ndarray(format="rgb24")))

    def _put(self, frame: CapturedFrame) -> None:
        with self._changed:
            if len(self._frames) == self._most_waiting:
                self._frames.popleft()
                self.num_dropped += 1
            self._frames.append(frame)
            self._changed.notify_all()


def _not_opened(source: str, found: str) -> MediaError:
    hint = "check the number, the address or the path"
    expected = "a camera's number, rtsp://..., or a video file"
    return MediaError(Problem("MED-SOURCE", where=source, found=found, expected=expected, hint=hint))
