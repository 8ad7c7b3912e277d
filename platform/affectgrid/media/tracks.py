"""Which streams of a container are its pictures and its sound: those marked default, never a cover or a commentary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from av.stream import Disposition

from affectgrid.errors import MediaError, Problem

_COVER = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_NOT_THE_SOUND = (
    Disposition.comment
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.descriptions
    | Disposition.karaoke
)
_STILL_CODECS = frozenset({"mjpeg", "png", "bmp", "gif", "webp", "tiff"})  # of covers that are not marked as such


def moving_pictures(path: Path, container: Any) -> Any:
    """The video stream. Raises MediaError: MED-NO-VIDEO, MED-CODEC (this FFmpeg cannot decode it)."""
    streams = [stream for stream in container.streams.video if not stream.disposition & _COVER]
    moving = [stream for stream in streams if not _is_unmarked_cover(stream, container)]
    if not moving:
        found = "one still picture" if streams or container.streams.video else "no video stream"
        raise MediaError(
            Problem("MED-NO-VIDEO", where=str(path), found=found, expected="moving pictures", hint="leave it out")
        )
    readable = [stream for stream in moving if stream.codec_context is not None]
    if not readable:
        raise MediaError(
            Problem(
                "MED-CODEC",
                where=str(path),
                found="pictures in a codec that this FFmpeg does not know",
                expected="a codec that PyAV decodes, such as H.264",
                hint="convert it where its codec is installed",
            )
        )
    return _preferred(readable)


def sound_track(container: Any) -> Any | None:
    """The sound stream, or None: no sound, a commentary alone, or a codec that this FFmpeg cannot decode."""
    streams = [stream for stream in container.streams.audio if not stream.disposition & _NOT_THE_SOUND]
    return _preferred([stream for stream in streams if stream.codec_context is not None])


def why_no_sound(container: Any) -> str:
    """What there is where ``sound_track`` finds nothing, in words."""
    streams = container.streams.audio
    if not streams:
        return "no sound"
    if all(stream.codec_context is None for stream in streams):
        return "sound in a codec that this FFmpeg does not know"
    return "no sound but a commentary"


def _preferred(streams: Sequence[Any]) -> Any | None:
    marked = [stream for stream in streams if stream.disposition & Disposition.default]
    return next(iter([*marked, *streams]), None)


def _is_unmarked_cover(stream: Any, container: Any) -> bool:
    """An MP4 may hold its cover as a video track of one picture."""
    codec = stream.codec_context
    return codec is not None and codec.name in _STILL_CODECS and "mp4" in container.format.name and stream.frames == 1
