"""Sound by time range on the video's clock; a range read alone equals that range of the whole track."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from affectgrid.media.container import open_media, origin_s, require_file
from affectgrid.media.tracks import sound_track

_PREROLL_S = 1.0  # decoders need what came before: AAC a frame, Opus 80 ms, MP3 its bit reservoir
_CONTEXT_S = 0.05  # more than the half-width of the resampling filter at any usual rate
# Matroska rounds times to 1 ms, so neighbours seem to overlap or to leave a gap; beyond this it is a real one.
_JITTER_S = 0.01
_ROUNDING_S = 0.0015
# A mix this far below its channels (30 dB) is no mix: they cancel. Never so where the mix itself is loud.
_CANCELLED, _LOUD_RMS = 1e-3, 0.05
_HALF_TAPS = 16  # of FFmpeg's resampling filter on each side, at the lower of both rates


def read_audio(
    path: Path, start_s: float, stop_s: float, *, sample_rate_hz: int = 16_000
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mono samples from ``start_s`` to ``stop_s`` on the container's clock, and where there is sound at all.

    Sample ``i`` is at ``(round(start_s * sample_rate_hz) + i) / sample_rate_hz``. Outside the sound track, and where it
    is damaged, samples are 0 and not present; both arrays have ``round(stop) - round(start)`` entries, whatever the
    file holds. Other channels are mixed down by FFmpeg's own matrix; where those of stereo cancel, the left one is
    taken. A part equals that part of the whole, but for AAC's noise substitution, whose random state depends on where
    decoding began (seen: 0.002 of full scale). Raises MediaError only if the file does not open.
    """
    first, stop = round(start_s * sample_rate_hz), round(stop_s * sample_rate_hz)
    if stop < first:
        raise ValueError(f"stop_s = {stop_s} lies before start_s = {start_s}")
    silence = np.zeros(stop - first, np.float32), np.zeros(stop - first, np.bool_)
    if stop == first or (head := _head(path, require_file(path).stat().st_mtime_ns)) is None:
        return silence
    rate = head.rate
    # In rational resampling the filter's phase repeats every `step` samples: begin on such a multiple, and a part is
    # resampled exactly as the whole is.
    common = math.gcd(rate, sample_rate_hz)
    step_in, step_out = rate // common, sample_rate_hz // common
    context = math.ceil(_CONTEXT_S * sample_rate_hz)
    block = (first - context) // step_out
    begin_in, end_in = block * step_in, math.ceil((stop + context) * rate / sample_rate_hz)
    with open_media(path) as container:
        stream = sound_track(container)
        line = _Line(begin_in, end_in, rate, origin_s(container))
        line.align(head)
        _rewind(container, stream, start_s - _PREROLL_S)
        for frame in _decoded(container, stream):
            if not line.place(frame):
                break
        mono = _resample(line.samples, rate, sample_rate_hz)
    offset = first - block * step_out
    sound = mono[offset : offset + stop - first]
    sound = np.pad(sound, (0, stop - first - len(sound)))
    ticks = np.arange(first, stop, dtype=np.int64) * rate // sample_rate_hz - begin_in
    present = line.present[np.clip(ticks, 0, len(line.present) - 1)]
    return np.where(present, sound, np.float32(0)), present


def filter_reach_s(rate_hz: int, sample_rate_hz: int) -> float:
    """How much later a sound may be than the sample that it changes when sound of one rate is read at another."""
    return 0.0 if rate_hz == sample_rate_hz else _HALF_TAPS / min(rate_hz, sample_rate_hz)


class _Line:
    """A stretch of the time line at the stream's own rate, filled frame by frame."""

    def __init__(self, begin: int, end: int, rate: int, zero_s: float) -> None:
        self.samples = np.zeros(end - begin, np.float32)
        self.present = np.zeros(end - begin, np.bool_)
        self._begin, self._rate, self._zero_s = begin, rate, zero_s
        self._next: int | None = None
        self._grid: tuple[int, int] | None = None
        self._mixers: dict[tuple[str, str, int], tuple[Any, float]] = {}

    def align(self, head: _Head) -> None:
        """Where times are coarser than samples, count whole frames from the end of the stream's first one."""
        if len(head.samples) == 2 and head.time_s is not None and head.coarse:
            # the first may be cut by the encoder's delay, the second is whole
            self._grid = self._told(head.time_s) + head.samples[0], head.samples[1]

    def place(self, frame: Any) -> bool:
        """Mix a frame down to where its time says; False once it lies behind the end."""
        time_s = frame.time  # read first: mixing takes it off the frame
        mono = self._mono(frame)
        at = self._next
        if time_s is not None:
            told = self._told(time_s)
            if at is None:
                at = self._snap(told, frame.samples)
            elif abs(told - at) > _JITTER_S * self._rate:
                at = told
        if at is None:
            return True  # without any time yet there is no place for it
        self._next = at + len(mono)
        low, high = max(at, self._begin), min(at + len(mono), self._begin + len(self.samples))
        if low < high:
            here = slice(low - self._begin, high - self._begin)
            self.samples[here] = mono[low - at : high - at]
            self.present[here] = True
        return at < self._begin + len(self.samples)

    def _told(self, time_s: float) -> int:
        return round((time_s - self._zero_s) * self._rate)

    def _snap(self, told: int, num_samples: int) -> int:
        """The place of the first frame after a seek; its end is sure, its beginning may have been cut off."""
        if self._grid is None:
            return told
        end, size = self._grid
        near = end + round((told + num_samples - end) / size) * size - num_samples
        return near if abs(near - told) <= _ROUNDING_S * self._rate else told

    def _mono(self, frame: Any) -> NDArray[np.float32]:
        key = (frame.format.name, frame.layout.name, frame.sample_rate)
        if key not in self._mixers:
            self._mixers[key] = _mixer(frame, self._rate)
        mixer, gain = self._mixers[key]
        frame.pts = None  # the resampler would fill or drop samples to follow the times; the line does that itself
        # a damaged float stream may hold NaN, and one would spread through the filter
        mono: NDArray[np.float32] = _run(mixer, frame) / np.float32(gain)
        mono = np.nan_to_num(mono, nan=0.0, posinf=0.0, neginf=0.0)
        return _left_where_cancelled(frame, mono) if key[1] == "stereo" else mono


def _left_where_cancelled(frame: Any, mono: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mix of a stereo frame, or its left channel where the right one is its negative (a wire crossed)."""
    energy = float(np.mean(np.square(mono), dtype=np.float64)) if len(mono) else 0.0
    if not len(mono) or energy > _LOUD_RMS**2:
        return mono
    left: NDArray[np.float32]
    right: NDArray[np.float32]
    left, right = _channels(frame)
    if len(left) != len(mono) or energy >= _CANCELLED * float(np.mean(np.square(left) + np.square(right)) / 2):
        return mono
    return left


def _channels(frame: Any) -> NDArray[np.float32]:
    """Both channels of a stereo frame at full scale 1, whatever its samples are."""
    samples: NDArray[Any] = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, 2).T
    if samples.dtype.kind == "f":
        return np.nan_to_num(samples.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    limits = np.iinfo(samples.dtype)
    middle = 0 if limits.min < 0 else limits.max // 2 + 1
    return (samples.astype(np.float32) - middle) / np.float32(limits.max - middle)


def _mixer(frame: Any, rate: int) -> tuple[Any, float]:
    """A resampler to mono floats, and what to divide its output by so that full scale stays full scale.

    FFmpeg lowers its mixing weights to a sum of 1 for integer samples only; for floats a stereo file would be 3 dB
    louder than its own mono copy.
    """
    ones = av.AudioFrame.from_ndarray(
        np.ones((len(frame.layout.channels), 64), np.float32), format="fltp", layout=frame.layout.name
    )
    ones.sample_rate = rate
    weights = float(_run(av.AudioResampler(format="flt", layout="mono", rate=rate), ones)[0])
    return av.AudioResampler(format="flt", layout="mono", rate=rate), max(1.0, weights)


def _run(resampler: Any, *frames: Any) -> NDArray[np.float32]:
    parts = [part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


class _Head(NamedTuple):
    """The first two frames of sound, or the only one: the first one's time, their lengths."""

    rate: int
    time_s: float | None
    coarse: bool  # its times are, against its samples
    samples: tuple[int, ...]


@functools.lru_cache(maxsize=1)
def _head(path: Path, _modified_ns: int) -> _Head | None:
    """How the sound begins; kept for the next piece of the same file. None without any."""
    with open_media(path) as container:
        stream = sound_track(container)
        frames = [] if stream is None else list(itertools.islice(_decoded(container, stream), 2))
    if not frames:
        return None
    first = frames[0]
    coarse = first.time_base is not None and first.time_base * first.sample_rate > 1
    return _Head(first.sample_rate, first.time, coarse, tuple(frame.samples for frame in frames))


def _rewind(container: Any, stream: Any, time_s: float) -> None:
    """Skip ahead to ``time_s``; stay at the beginning where there is no index or nothing to skip."""
    if time_s > 0:
        try:
            container.seek(int((time_s + origin_s(container)) / stream.time_base), stream=stream)
        except av.FFmpegError:
            container.seek(0)


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Frames from here on. Packets that do not decode are left out."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):
            return
        try:
            yield from packet.decode()
        except (av.FFmpegError, ValueError):
            continue  # damaged sound: what is missing stays not present


def _resample(samples: NDArray[np.float32], rate: int, sample_rate_hz: int) -> NDArray[np.float32]:
    if rate == sample_rate_hz:
        return samples
    resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate_hz)
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate = rate
    return _run(resampler, frame, None)
