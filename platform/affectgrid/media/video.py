"""Reading video frames by position and time; a chunk read alone equals the same frames read from the start."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import av.stream
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from affectgrid.errors import MediaError, Problem
from affectgrid.media.container import media_errors, open_media, origin_s

# In these codecs every demuxed packet becomes one picture, so counting packets counts frames. Others (VP8 has
# invisible reference frames) are indexed by decoding once.
_PACKET_IS_FRAME = frozenset({"h264", "hevc", "vp9", "av1", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "prores"})
# AVI stores no presentation times: with reordering codecs they are guesses, and only counting is right.
_GUESSED_TIMES = frozenset({"h264", "hevc"})
_MIN_FRAMES_TO_SEEK = 32  # frames: opening the file and seeking costs about as much as decoding these


@dataclasses.dataclass(frozen=True)
class AudioInfo:
    """The first sound stream. Times are seconds on the video's clock, from the packets themselves."""

    codec: str
    sample_rate_hz: int
    num_channels: int
    start_s: float
    stop_s: float


@dataclasses.dataclass(frozen=True, eq=False)
class VideoInfo:
    """The index of one video, in presentation order. Positions are 0-based; ``frame_index`` is position + 1.

    Args:
        num_frames: frames that should decode.
        frame_times_s: time of every frame, from the container's own start.
        width, height: of the upright picture, after ``rotation_degrees``.
        average_rate_hz: frames over the time they span; 0 for a single frame.
        container_frames: what the header says, if it says so.
        rotation_degrees: counter-clockwise, to make the stored picture upright: 0, 90, 180 or 270.
        pts, keyframes, seek_to: timestamps of all frames; positions of keyframes, and the decoding time of each.
        in_time_order: frames can be told by their timestamps; otherwise chunks are counted from the start.
    """

    num_frames: int
    frame_times_s: NDArray[np.float64]
    width: int
    height: int
    average_rate_hz: float
    container_frames: int | None
    audio: AudioInfo | None
    rotation_degrees: int
    pts: NDArray[np.int64]
    keyframes: NDArray[np.int64]
    seek_to: NDArray[np.int64]
    in_time_order: bool


_Frame = tuple[int, int | None, bool]  # pts, dts, keyframe


@dataclasses.dataclass
class _Scan:
    """What one pass over the packets finds."""

    frames: list[tuple[int | None, int | None, bool]] = dataclasses.field(default_factory=list)  # pts, dts, keyframe
    discarded: int = 0
    sound: list[tuple[int, int]] = dataclasses.field(default_factory=list)  # first and end, in the stream's ticks
    stop_s: float = 0.0


def probe_video(path: Path, *, max_side_px: int = 8192, max_frames: int = 2_000_000) -> VideoInfo:
    """Index a video from its packets; only the first frame is decoded (for its rotation).

    Raises MediaError: MED-EMPTY, MED-NO-VIDEO, MED-SIZE, MED-LONG, MED-SHORT (the file ends before its header says
    so), MED-DECODE.
    """
    with open_media(path) as container:
        stream = _pictures(path, container)
        _check_size(path, stream.width, stream.height, max_side_px)
        sound = container.streams.audio[0] if container.streams.audio else None
        scan = _scan(container, stream, sound)
        if len(scan.frames) > max_frames:
            found = f"{len(scan.frames)} frames"
            raise MediaError(
                Problem(
                    "MED-LONG", where=str(path), found=found, expected=f"at most {max_frames}", hint="cut it into parts"
                )
            )
        _check_complete(path, container, stream, scan)
        start_s, name, time_base = origin_s(container), container.format.name, stream.time_base
        codec, stated = stream.codec_context.name, stream.frames or None
        audio = _audio_info(sound, scan, start_s)
    rotation, width, height = _upright(path)
    frames: list[_Frame] = [(pts, dts, key) for pts, dts, key in scan.frames if pts is not None]
    if codec not in _PACKET_IS_FRAME or len(frames) < len(scan.frames):
        frames = _scan_by_decoding(path)
    if not frames:
        raise MediaError(
            Problem(
                "MED-SHORT",
                where=str(path),
                found="no frame",
                expected="at least one",
                hint="copy or download it again",
            )
        )
    order = sorted(range(len(frames)), key=lambda i: frames[i][0])
    pts = np.array([frames[i][0] for i in order], dtype=np.int64)
    keys = np.array([k for k, i in enumerate(order) if frames[i][2]], dtype=np.int64)
    seek_to = [frames[order[k]][1] if frames[order[k]][1] is not None else frames[order[k]][0] for k in keys]
    times_s = pts.astype(np.float64) * float(time_base) - start_s
    span_s = float(times_s[-1] - times_s[0])
    return VideoInfo(
        num_frames=len(pts),
        frame_times_s=times_s,
        width=width,
        height=height,
        average_rate_hz=(len(pts) - 1) / span_s if span_s > 0 else 0.0,
        container_frames=stated,
        audio=audio,
        rotation_degrees=rotation,
        pts=pts,
        keyframes=keys,
        seek_to=np.array(seek_to, dtype=np.int64),
        in_time_order=bool(np.all(np.diff(pts) > 0)) and not (name == "avi" and codec in _GUESSED_TIMES),
    )


def read_frames(
    path: Path, start: int, stop: int, info: VideoInfo, *, num_threads: int = 1
) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
    """Yield ``(frame_index, time_s, rgb [h, w, 3])`` for the positions ``start <= p < stop``; frame_index = p + 1.

    As ``FrameReader.read``, for one run of frames.
    """
    if not 0 <= start <= stop <= info.num_frames:
        raise ValueError(f"positions {start}:{stop} are outside 0:{info.num_frames} of {path}")
    with FrameReader(path, info, num_threads=num_threads) as reader:
        yield from reader.read(range(start, stop))


class FrameReader:
    """Frames of one video by position. It stays open: what follows on the last read costs no seek.

    Only frames that are asked for are converted to pixels.
    """

    def __init__(self, path: Path, info: VideoInfo, *, num_threads: int = 1) -> None:
        self._path, self._info, self._num_threads = path, info, num_threads
        self._frames: Generator[tuple[int, Any], None, None] | None = None
        self._next = 0  # the earliest position that `_frames` can still give
        self._converter = VideoReformatter()  # kept: FFmpeg prepares its tables once, not in every frame

    def read(self, positions: Iterable[int]) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
        """Yield ``(frame_index, time_s, rgb [h, w, 3])`` for ascending positions; frame_index = p + 1.

        Seeks to the last keyframe that is not after a position, unless decoding goes by it anyway. Raises MediaError
        MED-SHORT when a frame of the index does not decode, MED-DECODE when the decoder itself complains.
        """
        for position in positions:
            frame = self._find(position)
            with media_errors(self._path):
                rgb = _to_rgb(frame, self._info, self._converter)
            yield position + 1, float(self._info.frame_times_s[position]), rgb

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        frames, self._frames = self._frames, None
        if frames is not None:
            frames.close()

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
                self.close()
                self._frames, self._next = _decode(self._path, self._info, landing, self._num_threads), 0
                with contextlib.suppress(_SeekError):
                    found = self._advance(position)
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


def _decode(
    path: Path, info: VideoInfo, landing: tuple[int, int] | None, num_threads: int
) -> Generator[tuple[int, Any], None, None]:
    """Decoded frames with their positions, from a landing on."""
    counted = 0
    with open_media(path) as container:
        stream = _pictures(path, container)
        stream.codec_context.thread_count = num_threads
        if landing:
            try:
                container.seek(landing[0], stream=stream)
            except av.FFmpegError:
                raise _SeekError from None
        for number, packet in enumerate(container.demux(stream)):
            if number == 0 and landing and (packet.pts is None or packet.pts > landing[1]):
                raise _SeekError
            for frame in packet.decode():
                if not info.in_time_order:
                    yield counted, frame
                    counted += 1
                elif frame.pts is not None:
                    position = int(np.searchsorted(info.pts, frame.pts))
                    if position < info.num_frames and info.pts[position] == frame.pts:
                        yield position, frame


def _to_rgb(frame: Any, info: VideoInfo, converter: Any) -> NDArray[np.uint8]:
    rgb: NDArray[np.uint8] = converter.reformat(frame, format="rgb24").to_ndarray()
    return np.ascontiguousarray(np.rot90(rgb, info.rotation_degrees // 90)) if info.rotation_degrees else rgb


def _pictures(path: Path, container: Any) -> Any:
    """The first moving stream; a cover picture is a video stream, too."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise MediaError(
        Problem("MED-NO-VIDEO", where=str(path), found="no video stream", expected="pictures", hint="leave it out")
    )


def _scan(container: Any, video: Any, sound: Any) -> _Scan:
    """Read every packet of every stream once, decoding none: subtitles may be what the stated duration counts."""
    scan = _Scan()
    for packet in container.demux():
        if packet.size == 0:
            continue
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None:
            stop_s = (time + (packet.duration or 0)) * float(packet.time_base) - origin_s(container)
            scan.stop_s = max(scan.stop_s, stop_s)
        if packet.stream_index != video.index:
            is_sound = sound is not None and packet.stream_index == sound.index
            if is_sound and time is not None and not packet.is_discard:
                scan.sound.append((time, time + (packet.duration or 0)))
        elif packet.is_discard:  # cut away by an edit list
            scan.discarded += 1
        else:
            scan.frames.append((packet.pts, packet.dts, packet.is_keyframe))
    return scan


def _scan_by_decoding(path: Path) -> list[_Frame]:
    """The slow index, for codecs and containers whose packets do not tell; without times, frames are counted."""
    with open_media(path) as container:
        frames: list[_Frame] = [
            (frame.pts, None, bool(frame.key_frame)) for frame in container.decode(_pictures(path, container))
        ]
    if any(pts is None for pts, _, _ in frames):
        return [(count, None, count == 0) for count in range(len(frames))]
    return frames


def _audio_info(sound: Any, scan: _Scan, start_s: float) -> AudioInfo | None:
    if sound is None or not scan.sound or not sound.sample_rate:
        return None
    tick_s = float(sound.time_base)
    return AudioInfo(
        codec=sound.codec_context.name,
        sample_rate_hz=sound.sample_rate,
        num_channels=sound.channels,
        start_s=min(first for first, _ in scan.sound) * tick_s - start_s,
        stop_s=max(end for _, end in scan.sound) * tick_s - start_s,
    )


def _check_size(path: Path, width: int, height: int, max_side_px: int) -> None:
    if not (0 < width <= max_side_px and 0 < height <= max_side_px):
        found, expected = f"{width} x {height} pixels", f"sides from 1 to {max_side_px}"
        raise MediaError(
            Problem("MED-SIZE", where=str(path), found=found, expected=expected, hint="copy it again or scale it down")
        )


def _check_complete(path: Path, container: Any, stream: Any, scan: _Scan) -> None:
    """Compare with the header. Truncated files decode short without any error of their own."""
    hint = "the file is cut off: copy or download it again"
    found = len(scan.frames) + scan.discarded
    if "mp4" in container.format.name and stream.frames and found < stream.frames:
        raise MediaError(
            Problem(
                "MED-SHORT",
                where=str(path),
                found=f"{found} frames",
                expected=f"{stream.frames}, says its header",
                hint=hint,
            )
        )
    stated_s = (container.duration or 0) / 1e6
    if container.format.name == "avi":  # FFmpeg guesses a cut file's duration anew, but not its header's count
        stated_s = max(stated_s, float(stream.frames * stream.time_base))
    # 1 s of slack: headers round, and the last packet may have no duration
    if scan.stop_s < stated_s - max(1.0, 0.02 * stated_s):
        raise MediaError(
            Problem(
                "MED-SHORT",
                where=str(path),
                found=f"{scan.stop_s:.2f} s",
                expected=f"{stated_s:.2f} s, says its header",
                hint=hint,
            )
        )


def _upright(path: Path) -> tuple[int, int, int]:
    """Rotation in degrees counter-clockwise, and the upright width and height, from the first frame."""
    with open_media(path) as container:
        frame = next(container.decode(_pictures(path, container)), None)
        if frame is None:
            raise MediaError(
                Problem(
                    "MED-SHORT",
                    where=str(path),
                    found="no frame decodes",
                    expected="at least one",
                    hint="copy it again",
                )
            )
        rotation = round(frame.rotation / 90) * 90 % 360
        width, height = (frame.width, frame.height) if rotation % 180 == 0 else (frame.height, frame.width)
    return rotation, width, height
