"""Predictions as files: a table per track, and the challenge's one file in the order of its template."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from affectgrid.errors import CatalogError, Problem
from affectgrid.storage import write_atomic

HEADER = "image_location,valence,arousal"


def write_track(
    path: Path,
    frame_index: Int[np.ndarray, "frame"],
    time_s: Float[np.ndarray, "frame"],
    va: Float[np.ndarray, "frame 2"],
) -> None:
    """A CSV file with a row per frame: 1-based frame index, time in seconds, valence and arousal in [-1, 1]."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("frame", "time_s", "valence", "arousal"))
    for index, time, (valence, arousal) in zip(frame_index, time_s, va, strict=True):
        writer.writerow((int(index), f"{time:.3f}", f"{valence:.5f}", f"{arousal:.5f}"))
    write_atomic(path, text.getvalue())


def write_submission(path: Path, template: Path, va: Mapping[str, Float[np.ndarray, "frame 2"]]) -> int:
    """The challenge's file: the template's rows in the template's order; returns their number.

    `va` holds each track's predictions, where row k - 1 is frame k. Raises CatalogError before anything is written:
    EXP-TEMPLATE for a line that is not ``<track>/<frame>.jpg``, EXP-TRACK for a track without predictions, EXP-FRAMES
    for one with too few.
    """
    rows = list(_template_rows(template))
    wanted: dict[str, int] = {}
    for track, frame, _location in rows:
        wanted[track] = max(frame, wanted.get(track, 0))
    for track, highest in wanted.items():
        if track not in va:
            raise CatalogError(
                Problem(
                    "EXP-TRACK",
                    where=str(template),
                    found=f"track {track!r} has no predictions",
                    expected="every track",
                    hint="encode its video",
                )
            )
        if len(va[track]) < highest:
            found = f"track {track!r} has predictions for {len(va[track])} frames"
            hint = "check that its video and crops are complete"
            raise CatalogError(
                Problem("EXP-FRAMES", where=str(template), found=found, expected=f"{highest} frames", hint=hint)
            )
    lines = [HEADER]
    for track, frame, location in rows:
        valence, arousal = va[track][frame - 1]
        lines.append(f"{location},{valence:.5f},{arousal:.5f}")
    write_atomic(path, "\n".join([*lines, ""]))
    return len(rows)


def _template_rows(template: Path) -> Iterator[tuple[str, int, str]]:
    for number, line in enumerate(template.read_text(encoding="utf-8").splitlines(), 1):
        location = line.split(",")[0].strip()
        if not location or (number == 1 and location == "image_location"):
            continue
        track, _, name = location.rpartition("/")
        stem = name.removesuffix(".jpg")
        if not track or not stem.isdecimal() or int(stem) < 1:
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
