"""A picture beside each problem: the frame or the crop that it is about, where one can be decoded."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from affectgrid.data.catalog import Track
from affectgrid.errors import AffectGridError, Problem
from affectgrid.media.faces.crops import list_crops, read_crop
from affectgrid.media.guard import GuardedProcess
from affectgrid.reporting.tables import Table
from affectgrid.storage import show_places, staged

_SIDE_PX = 96
_MOST = 100  # problems that are shown with one; of hundreds of a kind these are enough
_TIME_LIMIT_S, _MEMORY_LIMIT_BYTES = 60, 4 << 30
_HEADINGS = ("", "code", "where", "found", "expected", "how to mend it")


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """A small JPEG, and what it shows in words."""

    jpeg: bytes
    words: str


def draw_thumbnails(problems: Sequence[Problem], tracks: Iterable[Track]) -> list[Thumbnail | None]:
    """One for each problem; None where it is about no file of a track, or nothing near it can be decoded.

    Shown is the crop that is meant, the frame whose line of labels is, or else the first frame that decodes. Videos are
    decoded in a guarded process: the broken ones are the likeliest to be here.
    """
    by_place = _by_place(tracks)
    known: dict[tuple[str, int], Thumbnail | None] = {}
    drawn: list[Thumbnail | None] = []
    with GuardedProcess(time_limit_s=_TIME_LIMIT_S, memory_limit_bytes=_MEMORY_LIMIT_BYTES) as guard:
        for problem in problems[:_MOST]:
            track, frame = _subject(problem, by_place)
            if track is not None and (track.id, frame) not in known:
                known[track.id, frame] = _draw(track, frame, guard)
            drawn.append(None if track is None else known[track.id, frame])
    return [*drawn, *[None] * (len(problems) - len(drawn))]


def problems_html(problems: Sequence[Problem], thumbnails: Sequence[Thumbnail | None]) -> str:
    """A table of problems, each with its mend, and with its picture where there is any."""
    rows = [(p.severity, p.code, p.where, p.found, p.expected, p.hint) for p in problems]
    pictures = [_image(thumbnail) if thumbnail else "" for thumbnail in thumbnails]
    return Table("Problems", _HEADINGS, tuple(rows)).html(pictures if any(pictures) else ())


def _image(thumbnail: Thumbnail) -> str:
    content = base64.b64encode(thumbnail.jpeg).decode("ascii")
    return f'<img width="{_SIDE_PX}" alt="{escape(thumbnail.words)}" src="data:image/jpeg;base64,{content}">'


def _by_place(tracks: Iterable[Track]) -> dict[str, Track]:
    """Tracks by what a problem's place may begin with: its video, its folder of crops, its labels."""
    found: dict[str, Track] = {}
    for track in tracks:
        paths = [path for path in (track.video, track.crops) if path is not None]
        paths += track.labels.paths if track.labels else ()
        names = [show_places(str(path)) for path in paths] + ([f"video {track.video.stem}"] if track.video else [])
        for name in names:
            found.setdefault(name, track)
    return found


def _subject(problem: Problem, by_place: Mapping[str, Track]) -> tuple[Track | None, int]:
    """The track that a problem is about, and the number of its frame; 0 where it is about no certain one."""
    name, _, line = problem.where.rpartition(":")
    if line.isdecimal() and name in by_place:
        return by_place[name], max(int(line) - 1, 0)  # the header is line 1, frame 1 is line 2
    if problem.where in by_place:
        return by_place[problem.where], 0
    folder, _, file = problem.where.rpartition("/")
    crop = re.fullmatch(r"(\d{1,9})\.\w+", file)
    return (by_place[folder], int(crop[1])) if crop and folder in by_place else (None, 0)


def _draw(track: Track, frame: int, guard: GuardedProcess) -> Thumbnail | None:
    """The crop of a frame, or the frame of the video; of another one where this cannot be decoded."""
    if track.crops is not None:
        with contextlib.suppress(AffectGridError, OSError), staged(track.crops) as folder:
            crops = list_crops(folder)
            for index in sorted(crops, key=lambda index: (abs(index - frame), index))[:3]:
                with contextlib.suppress(AffectGridError):
                    return _small(read_crop(crops[index]), f"crop {index} of {track.id}")
    if track.video is not None:
        with contextlib.suppress(AffectGridError, OSError), staged(track.video) as video:
            for index in dict.fromkeys((max(frame, 1), 1)):
                rgb = _frame(guard, video, index)
                if rgb is not None:
                    return _small(rgb, f"frame {index} of {track.video.name}")
    return None


def _frame(guard: GuardedProcess, video: Path, index: int) -> NDArray[np.uint8] | None:
    with contextlib.suppress(AffectGridError):
        read = "affectgrid.media.chunks:read_visual_chunk"
        images = guard.call(read, str(video), None, index - 1, index, crop="frame").images
        return images[0] if images else None
    return None


def _small(rgb: NDArray[np.uint8], words: str) -> Thumbnail:
    picture, file = Image.fromarray(rgb), io.BytesIO()
    picture.thumbnail((2 * _SIDE_PX, 2 * _SIDE_PX))  # twice as fine as it is shown, for fine screens
    picture.save(file, "JPEG", quality=75)
    return Thumbnail(file.getvalue(), words)
