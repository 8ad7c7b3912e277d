"""Who is in which track, where a list says so: Aff-Wild2 itself does not."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from affectgrid.errors import CatalogError, Problem

_COLUMNS = ("track", "person")
_MAX_NAMED = 10


def read_people(path: Path, tracks: Collection[str]) -> dict[str, str]:
    """Person by track, from a CSV file with the columns ``track`` and ``person``; tracks that it lacks are unknown.

    Raises CatalogError (CAT-PEOPLE) for a file that cannot be read or lacks a column, for an empty cell, a track twice,
    and where no line names one of `tracks`: the first ten of them.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not set(_COLUMNS) <= set(rows.fieldnames or ()):
                raise CatalogError(_problem(path, f"the columns {', '.join(rows.fieldnames or ()) or 'none'}"))
            listed = [(rows.line_num, (row["track"] or "").strip(), (row["person"] or "").strip()) for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise CatalogError(_problem(path, str(error))) from error
    found: dict[str, str] = {}
    problems = []
    for line, track, person in listed:
        if not track or not person or track in found:
            what = f"{track!r} twice" if track in found else "an empty cell"
            problems.append(_problem(path, what, line))
        found[track] = person
    if problems:
        raise CatalogError(*problems[:_MAX_NAMED])
    if not found.keys() & set(tracks):
        raise CatalogError(_problem(path, f"{len(found)} tracks, none of them of the split"))
    return found


def _problem(path: Path, found: str, line: int = 0) -> Problem:
    where = f"{path}:{line}" if line else str(path)
    hint = "write one line for each track, under the heading track,person"
    return Problem("CAT-PEOPLE", where=where, found=found, expected="columns track and person", hint=hint)
