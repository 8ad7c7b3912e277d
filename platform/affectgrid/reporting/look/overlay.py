"""A video with what is known of it drawn in: the face's box, the moving point on the plane, and the traces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from affectgrid.errors import Problem, StoreError
from affectgrid.media.audio import read_audio
from affectgrid.media.frames import FrameReader
from affectgrid.media.video import probe_video
from affectgrid.reporting.look.course import Course

# Okabe and Ito's palette, as the figures have it: valence, arousal; labels are the same, thinner and lighter
VALENCE, AROUSAL = (0, 114, 178), (213, 94, 0)
_LABEL_VALENCE, _LABEL_AROUSAL = (150, 200, 230), (240, 190, 150)
_GREY, _INK = (170, 170, 170), (40, 40, 40)
_SHOWN_S = 10.0  # of the traces, up to now
_TRAIL_S = 1.0  # of the moving point
_TICKS = 90_000  # a second, as MPEG counts
_SAMPLE_RATE_HZ = 48_000
_BLOCK_S = 10.0  # of sound that is read at a time


def write_overlay(course: Course, path: Path, *, max_height_px: int = 720, drawn: bool = True) -> Path:
    """Write an MP4 (H.264, AAC) with the video's own frame times and sound; complete or not at all.

    Args:
        max_height_px: of the picture; larger ones are scaled down.
        drawn: False for the video alone, in a form that every browser plays.

    Raises MediaError where the video cannot be read, StoreError (STO-WRITE) where the file cannot be written.
    """
    info = probe_video(course.video)
    scale = min(1.0, max_height_px / info.height)
    size = (_even(info.width * scale), _even(info.height * scale))
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(draft), "w", format="mp4", options={"movflags": "faststart"}) as container:
            rate = Fraction(info.average_rate_hz or 1).limit_denominator(1001)
            pictures: Any = container.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "23"})
            pictures.width, pictures.height = size[0] + (_panel_width(size[1]) if drawn else 0), size[1]
            pictures.pix_fmt, pictures.time_base = "yuv420p", Fraction(1, _TICKS)
            pictures.codec_context.time_base = Fraction(1, _TICKS)
            sound: Any = container.add_stream("aac", rate=_SAMPLE_RATE_HZ, layout="mono") if info.audio else None
            with FrameReader(course.video, info) as reader:
                for index, time_s, rgb in reader.read(range(info.num_frames)):
                    frame = av.VideoFrame.from_ndarray(_draw(course, index - 1, rgb, size, drawn), format="rgb24")
                    frame.pts, frame.time_base = round(time_s * _TICKS), Fraction(1, _TICKS)
                    container.mux(pictures.encode(frame))
            container.mux(pictures.encode(None))
            if sound is not None:
                for block in _sound(course.video, float(info.frame_times_s[-1])):
                    container.mux(sound.encode(block))
                container.mux(sound.encode(None))
        draft.replace(path)
    except OSError as error:
        raise StoreError(
            Problem("STO-WRITE", where=str(path), found=str(error), expected="a writable folder", hint="choose another")
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def _even(pixels: float) -> int:
    return max(2, 2 * round(pixels / 2))  # yuv420p halves both sides


def _panel_width(height: int) -> int:
    return _even(max(160, 0.6 * height))


def _sound(video: Path, stop_s: float) -> Iterator[av.AudioFrame]:
    for number, start_s in enumerate(np.arange(0.0, stop_s, _BLOCK_S)):
        samples, _ = read_audio(video, start_s, min(start_s + _BLOCK_S, stop_s), sample_rate_hz=_SAMPLE_RATE_HZ)
        if len(samples):
            frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = _SAMPLE_RATE_HZ, round(number * _BLOCK_S * _SAMPLE_RATE_HZ)
            frame.time_base = Fraction(1, _SAMPLE_RATE_HZ)
            yield frame


def _draw(
    course: Course, position: int, rgb: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], drawn: bool
) -> UInt8[np.ndarray, "height width 3"]:
    """The frame at its size, with box and panel."""
    picture = Image.fromarray(rgb)
    if drawn and np.isfinite(course.box[position]).all():
        left, top, right, bottom = (float(edge) for edge in course.box[position])
        width = max(2, rgb.shape[0] // 180)
        ImageDraw.Draw(picture).rectangle((left, top, right, bottom), outline=(0, 158, 115), width=width)
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    if not drawn:
        return np.asarray(picture)
    canvas = Image.new("RGB", (size[0] + _panel_width(size[1]), size[1]), "white")
    canvas.paste(picture, (0, 0))
    pen = ImageDraw.Draw(canvas)
    left, right, middle = size[0] + 8, canvas.width - 8, min(canvas.width - size[0], size[1] * 6 // 10)
    _draw_plane(pen, course, position, (left, 8, left + min(middle, right - left) - 8, middle))
    _draw_traces(pen, course, position, (left, middle + 16, right, size[1] - 8))
    return np.asarray(canvas)


Area = tuple[float, float, float, float]


def _draw_plane(pen: ImageDraw.ImageDraw, course: Course, position: int, area: Area) -> None:
    """The nine regions, the last second of the prediction, and the label as a ring."""
    left, top, right, bottom = area
    pen.rectangle(area, outline=_GREY)
    for third in (1 / 3, 2 / 3):
        x, y = left + third * (right - left), top + third * (bottom - top)
        pen.line((x, top, x, bottom), fill=_GREY)
        pen.line((left, y, right, y), fill=_GREY)
    pen.text((right - 44, bottom - 13), "valence", fill=_INK)
    pen.text((left + 3, top + 2), "arousal", fill=_INK)

    def at(va: np.ndarray) -> tuple[float, float]:
        return left + (va[0] + 1) / 2 * (right - left), bottom - (va[1] + 1) / 2 * (bottom - top)

    recent = course.time_s >= course.time_s[position] - _TRAIL_S
    for earlier in np.flatnonzero(recent[: position + 1]):
        if np.isfinite(course.predicted[earlier]).all():
            x, y = at(course.predicted[earlier])
            radius = 5 if earlier == position else 1
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_INK)
    if np.isfinite(course.labels[position]).all():
        x, y = at(course.labels[position])
        pen.ellipse((x - 6, y - 6, x + 6, y + 6), outline=VALENCE, width=2)


def _draw_traces(pen: ImageDraw.ImageDraw, course: Course, position: int, area: Area) -> None:
    """Valence and arousal of the last ten seconds; labels are lighter."""
    left, top, right, bottom = area
    now_s = course.time_s[position]
    pen.rectangle(area, outline=_GREY)
    pen.line((left, (top + bottom) / 2, right, (top + bottom) / 2), fill=_GREY)
    first = int(np.searchsorted(course.time_s, now_s - _SHOWN_S))
    shown = slice(first, position + 1)
    x = right - (now_s - course.time_s[shown]) / _SHOWN_S * (right - left)
    lines = ((course.labels, (_LABEL_VALENCE, _LABEL_AROUSAL), 1), (course.predicted, (VALENCE, AROUSAL), 2))
    for values, colours, width in lines:
        for axis, colour in enumerate(colours):
            y = bottom - (values[shown, axis] + 1) / 2 * (bottom - top)
            _draw_line(pen, x, y, colour, width)
    pen.text((left + 4, top + 2), "valence", fill=VALENCE)
    pen.text((left + 54, top + 2), "arousal", fill=AROUSAL)


def _draw_line(
    pen: ImageDraw.ImageDraw, x: np.ndarray, y: np.ndarray, colour: tuple[int, int, int], width: int
) -> None:
    """A line that is interrupted where there is no value."""
    gaps = np.flatnonzero(~np.isfinite(y))
    for piece in np.split(np.arange(len(y)), gaps):
        points = [(float(x[k]), float(y[k])) for k in piece if np.isfinite(y[k])]
        if len(points) > 1:
            pen.line(points, fill=colour, width=width)
