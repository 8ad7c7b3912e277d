"""Opening a media file: local containers only, every failure a MediaError."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.logging

from affectgrid.errors import MediaError, Problem

# Demuxers that read one local file. Playlists (hls, dash, concat) and image patterns would open other files or hosts.
_FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,wav,mp3,aac,flac"
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}

av.logging.set_level(av.logging.PANIC)  # what matters is raised; FFmpeg's own log is noise


def require_file(path: Path) -> Path:
    """The path as it is, if it is a regular file that is not empty.

    Raises MediaError: MED-NAME (a URL, a NUL), MED-MISSING, MED-EMPTY.
    """
    name = str(path)
    # pathlib folds "http://x" into "http:/x", so one slash is what a posing URL still has
    if "\0" in name or (not path.is_absolute() and ":/" in name):
        raise MediaError(
            Problem(
                "MED-NAME",
                where=repr(name),
                found="not a local path",
                expected="a file on this machine",
                hint="download it",
            )
        )
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise MediaError(
            Problem("MED-MISSING", where=name, found=found, expected="a media file", hint="check the path")
        )
    if path.stat().st_size == 0:
        raise MediaError(
            Problem(
                "MED-EMPTY",
                where=name,
                found="an empty file",
                expected="a media file",
                hint="copy or download it again",
            )
        )
    return path


@contextlib.contextmanager
def media_errors(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises on damaged bytes into MediaError (MED-MEMORY, MED-DECODE)."""
    try:
        yield
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaError(
            Problem(
                "MED-MEMORY",
                where=str(path),
                found="the decoder ran out of memory",
                expected="a file of sane dimensions",
                hint=_AGAIN,
            )
        ) from error
    # damaged files were seen to raise each of these through PyAV, not only FFmpegError
    except (av.FFmpegError, ValueError, LookupError, OSError, ArithmeticError, RuntimeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise MediaError(
            Problem("MED-DECODE", where=str(path), found=found, expected="a readable media file", hint=_AGAIN)
        ) from error


_AGAIN = "copy or download it again, or leave it out"


@contextlib.contextmanager
def open_media(path: Path) -> Iterator[Any]:
    """The opened container. Refuses playlists and URLs, whatever the file is called."""
    require_file(path)
    # a broken title must not stop the pictures: metadata_errors
    with media_errors(path), av.open(str(path), options=_OPTIONS, metadata_errors="replace") as container:
        yield container


def origin_s(container: Any) -> float:
    """The container's zero of time in seconds; picture and sound are both told from here."""
    return float((container.start_time or 0) / av.time_base)
