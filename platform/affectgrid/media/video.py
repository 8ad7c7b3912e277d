"""What a video holds: its frames, times, keyframes and sound, from its packets; only one frame is decoded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectgrid.errors import MediaError, Problem
from affectgrid.media.container import open_media, origin_s
from affectgrid.media.index import Scan, index_frames, scan_packets
from affectgrid.media.tracks import moving_pictures, sound_track, why_no_sound
from affectgrid.media.upright import Orientation

# AVI stores no presentation times: with reordering codecs they are guesses, and only counting is right.
_GUESSED_TIMES = frozenset({"h264", "hevc"})


@dataclasses.dataclass(frozen=True)
class AudioInfo:
    """The sound stream. Times are seconds on the video's clock, from the packets themselves."""

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
        width, height: of the upright picture, after ``orientation``.
        average_rate_hz: frames over the time they span; 0 for a single frame.
        container_frames: what the header says, if it says so.
        orientation: what makes the stored picture upright.
        pts, keyframes, seek_to: timestamps of all frames; positions of keyframes, and the decoding time of each.
        in_time_order: frames can be told by their timestamps; otherwise chunks are counted from the start.
        lost_frames: pictures at the beginning that no decoder shows, for their keyframe is missing.
        why_no_sound: where ``audio`` is None, what there is instead.
    """

    num_frames: int
    frame_times_s: NDArray[np.float64]
    width: int
    height: int
    average_rate_hz: float
    container_frames: int | None
    audio: AudioInfo | None
    orientation: Orientation
    pts: NDArray[np.int64]
    keyframes: NDArray[np.int64]
    seek_to: NDArray[np.int64]
    in_time_order: bool
    lost_frames: int = 0
    why_no_sound: str = "no sound"


def probe_video(path: Path, *, max_side_px: int = 8192, max_frames: int = 2_000_000) -> VideoInfo:
    """Index a video from its packets; only the first frame is decoded (for its rotation).

    Raises MediaError: MED-EMPTY, MED-NO-VIDEO, MED-SIZE, MED-LONG, MED-SHORT (the file ends before its header says
    so), MED-DECODE.
    """
    with open_media(path) as container:
        stream = moving_pictures(path, container)
        _check_size(path, stream.width, stream.height, max_side_px)
        sound, no_sound = sound_track(container), why_no_sound(container)
        indexed = len(stream.index_entries)  # before packets are read: some demuxers add to it
        scan = scan_packets(container, stream, sound)
        if len(scan.frames) > max_frames:
            found = f"{len(scan.frames)} frames"
            raise MediaError(
                Problem(
                    "MED-LONG", where=str(path), found=found, expected=f"at most {max_frames}", hint="cut it into parts"
                )
            )
        frames, decoded = index_frames(path, stream, scan)
        _check_complete(path, container, stream, scan, indexed)
        start_s, name, time_base = origin_s(container), container.format.name, stream.time_base
        codec, stated = stream.codec_context.name, stream.frames or None
        audio = _audio_info(sound, scan, start_s)
    orientation, width, height = _upright(path)
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
        orientation=orientation,
        pts=pts,
        keyframes=keys,
        seek_to=np.array(seek_to, dtype=np.int64),
        in_time_order=bool(np.all(np.diff(pts) > 0)) and not (name == "avi" and (decoded or codec in _GUESSED_TIMES)),
        lost_frames=max(0, len(scan.frames) - len(frames)) if scan.begins_late else 0,
        why_no_sound=no_sound,
    )


def _audio_info(sound: Any, scan: Scan, start_s: float) -> AudioInfo | None:
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


def _check_complete(path: Path, container: Any, stream: Any, scan: Scan, indexed: int) -> None:
    """Compare with the header. Truncated files decode short without any error of their own.

    An edit list may leave most of an MP4 out; FFmpeg's index of its packets (`indexed` of them) says what remains.
    """
    hint = "the file is cut off: copy or download it again"
    found = len(scan.frames) + scan.discarded
    is_mp4 = "mp4" in container.format.name
    is_edited = is_mp4 and 0 < indexed < stream.frames
    if is_mp4 and found < (indexed if is_edited else stream.frames):
        raise MediaError(
            Problem(
                "MED-SHORT",
                where=str(path),
                found=f"{found} frames",
                expected=f"{indexed if is_edited else stream.frames}, says its header",
                hint=hint,
            )
        )
    if is_edited:
        return  # editors leave the whole file's duration in the header
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


def _upright(path: Path) -> tuple[Orientation, int, int]:
    """The orientation, and the upright width and height, from the first frame."""
    with open_media(path) as container:
        frame = next(container.decode(moving_pictures(path, container)), None)
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
        orientation = Orientation.of(frame)
        return orientation, *orientation.size(frame.width, frame.height)
