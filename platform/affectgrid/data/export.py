"""Predictions as files: a table per track, and the challenge's one file in the order of its template."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from affectgrid.errors import CatalogError, Problem
from affectgrid.storage import write_atomic

HEADER = "image_location,valence,arousal"
Fill = Literal["hold", "neutral", "model"]

_FRAME = re.compile(r"[0-9]{1,9}")  # as many digits as a crop's name may have


@dataclasses.dataclass(frozen=True)
class Filled:
    """Frames of a track, the first and the last, that had no prediction."""

    track: str
    first: int
    last: int


def write_track(
    path: Path,
    frame_index: Int[np.ndarray, "frame"],
    time_s: Float[np.ndarray, "frame"],
    va: Float[np.ndarray, "frame 2"],
    more: Mapping[str, Float[np.ndarray, "frame"]] | None = None,
) -> None:
    """A CSV file with a row per frame: 1-based frame index, time in seconds, valence and arousal in [-1, 1].

    A field is empty where its value is NaN. `more` are further columns by name; ``face_found`` is 0 or 1, and the
    other columns of a face are in pixels, but for its score.
    """
    columns = {"valence": va[:, 0], "arousal": va[:, 1], **(more or {})}
    formats = [_format(name) for name in columns]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("frame", "time_s", *columns))
    for index, time, *values in zip(frame_index, time_s, *columns.values(), strict=True):
        shown = ("" if np.isnan(value) else format(value, how) for value, how in zip(values, formats, strict=True))
        writer.writerow((int(index), f"{time:.3f}", *shown))
    write_atomic(path, text.getvalue())


def _format(name: str) -> str:
    if name == "face_found":
        return ".0f"
    return ".1f" if name.startswith("face_") and name != "face_score" else ".5f"


def without_faces(
    va: Float[np.ndarray, "frame 2"], found: Bool[np.ndarray, "frame"], fill: Fill | None
) -> Float[np.ndarray, "frame 2"]:
    """One track's predictions, NaN where no face was found: or the last one with a face, 0, 0, or the model's own."""
    if fill == "model" or found.all():
        return va
    kept = np.where(found[:, None], va, 0.0 if fill == "neutral" else np.nan)
    if fill == "hold":
        last = np.maximum.accumulate(np.where(found, np.arange(len(found)), -1))
        kept = np.where(last[:, None] >= 0, va[last], 0.0)
    return kept.astype(va.dtype)


def write_submission(
    path: Path, template: Path, va: Mapping[str, Float[np.ndarray, "frame 2"]], *, fill: Fill | None = None
) -> tuple[Filled, ...]:
    """The challenge's file: the template's rows in the template's order; returns what was filled.

    `va` holds each track's predictions, where row k - 1 is frame k. What a track lacks at its end is filled with its
    last prediction (`hold`) or with 0, 0 (`neutral`), a track without any with 0, 0; what was filled is listed in
    ``filled.csv`` beside the file.

    Raises CatalogError before anything is written: EXP-TEMPLATE for a file that is no text, or a line that is not
    ``<track>/<frame>.jpg``; without `fill` EXP-TRACK for a track without predictions, EXP-FRAMES for one with too few.
    """
    rows = list(_template_rows(template))
    wanted: dict[str, int] = {}
    for track, frame, _location in rows:
        wanted[track] = max(frame, wanted.get(track, 0))
    none, none_there = np.zeros((0, 2), dtype=np.float32), np.zeros(2, dtype=np.float32)
    known = {track: va.get(track, none) for track in wanted}
    filled = tuple(
        Filled(track, len(known[track]) + 1, last) for track, last in wanted.items() if len(known[track]) < last
    )
    if filled and fill not in ("hold", "neutral"):
        raise CatalogError(*(_missing(template, one) for one in filled))
    lines = [HEADER]
    for track, frame, location in rows:
        own = known[track]
        beyond = own[-1] if fill == "hold" and len(own) else none_there
        valence, arousal = own[frame - 1] if frame <= len(own) else beyond
        lines.append(f"{location},{valence:.5f},{arousal:.5f}")
    write_atomic(path, "\n".join([*lines, ""]))
    if filled:
        listed = [f"{one.track},{one.first},{one.last}" for one in filled]
        write_atomic(path.with_name("filled.csv"), "\n".join(["track,first_frame,last_frame", *listed, ""]))
    return filled


def _missing(template: Path, missing: Filled) -> Problem:
    hint = "encode its video, or give --fill hold or --fill neutral"
    if missing.first == 1:
        found = f"track {missing.track!r} has no predictions"
        return Problem("EXP-TRACK", where=str(template), found=found, expected="every track", hint=hint)
    found = f"track {missing.track!r} has predictions for {missing.first - 1} frames"
    hint = "check that its video and crops are complete, or give --fill hold or --fill neutral"
    return Problem("EXP-FRAMES", where=str(template), found=found, expected=f"{missing.last} frames", hint=hint)


def _template_rows(template: Path) -> Iterator[tuple[str, int, str]]:
    try:
        lines = template.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise CatalogError(
            Problem(
                "EXP-TEMPLATE",
                where=str(template),
                found=str(error),
                expected="a text file in UTF-8",
                hint="use the challenge's template",
            )
        ) from error
    for number, line in enumerate(lines, 1):
        location = line.split(",")[0].strip()
        if not location or (number == 1 and location == "image_location"):
            continue
        track, _, name = location.rpartition("/")
        stem = name.removesuffix(".jpg")
        if not track or not _FRAME.fullmatch(stem) or int(stem) < 1:
            where, expected = f"{template}:{number}", "<track>/<frame>.jpg"
            raise CatalogError(
                Problem(
                    "EXP-TEMPLATE",
                    where=where,
                    found=repr(location),
                    expected=expected,
                    hint="use the challenge's template",
                )
            )
        yield track, int(stem), location
