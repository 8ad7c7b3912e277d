"""One page that plays tracks: the video beside its point on the plane and its traces, which move with it."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import numpy as np

from affectgrid import storage
from affectgrid.media.container import open_media
from affectgrid.media.tracks import moving_pictures
from affectgrid.reporting.look.course import Course
from affectgrid.reporting.look.overlay import write_overlay

_PLAYED = {("mp4", "h264"), ("webm", "vp8"), ("webm", "vp9"), ("mp4", "av1"), ("webm", "av1")}  # by every browser
_EMBEDDED_HEIGHT_PX = 360


def write_page(folder: Path, courses: Sequence[Course], title: str, *, caveat: str = "", embed: bool = False) -> Path:
    """Write ``look.html`` into `folder`; returns its path.

    Videos that browsers play are linked where they are, by a path that is relative to the page; others are encoded
    again, into ``look/`` beside it. With `embed` all are encoded small and put into the page, which then is one file.
    """
    tracks = [_track(folder, course, embed) for course in courses]
    data = json.dumps(tracks, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    template = (files(__package__) / "page.html").read_text(encoding="utf-8")
    filled = {"TITLE": escape(title), "CAVEAT": escape(caveat), "TRACKS": data}
    for name, text in filled.items():
        template = template.replace(f"@{name}@", text)
    return storage.write_atomic(folder / "look.html", template)


def _track(folder: Path, course: Course, embed: bool) -> dict[str, object]:
    return {
        "name": course.track,
        "video": _source(folder, course, embed),
        "time": _numbers(course.time_s),
        "label": [_numbers(axis) for axis in course.labels.T] if np.isfinite(course.labels).any() else None,
        "predicted": [_numbers(axis) for axis in course.predicted.T] if np.isfinite(course.predicted).any() else None,
    }


def _numbers(values: np.ndarray) -> list[float | None]:
    return [round(float(value), 3) if np.isfinite(value) else None for value in values]


def _source(folder: Path, course: Course, embed: bool) -> str:
    if embed:
        small = write_overlay(
            course, folder / f".{os.getpid()}-{course.track}.mp4", max_height_px=_EMBEDDED_HEIGHT_PX, drawn=False
        )
        try:
            return "data:video/mp4;base64," + base64.b64encode(small.read_bytes()).decode("ascii")
        finally:
            small.unlink()
    video = course.video
    if not _plays(video):
        video = folder / "look" / f"{course.track}.mp4"
        if not video.exists() or video.stat().st_mtime < course.video.stat().st_mtime:
            write_overlay(course, video, drawn=False)
    return quote(Path(os.path.relpath(video.resolve(), folder.resolve())).as_posix())


def _plays(video: Path) -> bool:
    with open_media(video) as container:
        stream = moving_pictures(video, container)
        known = container.format.name.split(",")
        kind = "mp4" if "mp4" in known else "webm" if "webm" in known else ""
        return (kind, stream.codec_context.name) in _PLAYED and stream.format.name == "yuv420p"
