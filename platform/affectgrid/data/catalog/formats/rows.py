"""Numbers from files of labels: what cannot be read refuses the file, or is masked where that was asked for."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from affectgrid.data.annotations import read_text
from affectgrid.data.catalog.points import Course, LabelPoints, Scale, refuse
from affectgrid.errors import AnnotationError, Problem

MISSING = frozenset({"", "?", "nan", "na", "null", "none"})  # no label, in any case

Row = tuple[int, list[str]]  # line and cells


class LabelReader:
    """Reads the files of one track's labels.

    Args:
        source: whose `on_bad` says what becomes of a number that is none.
    """

    def __init__(self, source: LabelPoints) -> None:
        self._masks = source.on_bad == "mask"
        self._odd: list[Problem] = []

    @property
    def odd(self) -> tuple[Problem, ...]:
        """What was masked."""
        return tuple(self._odd)

    def label(self, path: Path, line: int | str, cell: str, scale: Scale) -> float:
        """A value of the scale; NaN where there is none. Raises AnnotationError: ANN-NUMBER, ANN-RANGE."""
        try:
            value = _number(path, line, cell)
            if not (math.isnan(value) or scale.low <= value <= scale.high):
                refuse(path, "ANN-RANGE", repr(value), f"a value of the scale {scale}", "correct it", line=line)
        except AnnotationError as error:
            if not self._masks:
                raise
            self._odd.extend(error.problems)
            return math.nan
        return value

    def course(
        self, path: Path, rows: Sequence[Row], at: int, values: Sequence[int], scale: Scale, *, unit: float = 1.0
    ) -> Course:
        """Times and labels of a file's rows.

        Args:
            path: of the file.
            rows: as ``read_rows`` gives them.
            at: the column of times, in units of `unit` seconds.
            values: the columns of labels, whose mean counts: one, or one of each rater.
            scale: of the labels.

        Raises AnnotationError: ANN-COLUMNS for a row without them, ANN-TIME for times that do not ascend, and as
        ``label``. A time that is no number is never masked: nobody knows where the row belongs.
        """
        times: list[float] = []
        labels: list[float] = []
        for line, cells in rows:
            if len(cells) <= max(at, *values):
                found = f"{len(cells)} columns"
                refuse(path, "ANN-COLUMNS", found, f"at least {max(at, *values) + 1}", "correct this row", line=line)
            time_s = _number(path, line, cells[at]) * unit
            if math.isnan(time_s) or (times and time_s <= times[-1]):
                refuse(path, "ANN-TIME", repr(cells[at]), "times that ascend", "sort the rows", line=line)
            times.append(time_s)
            labels.append(float(np.mean([self.label(path, line, cells[column], scale) for column in values])))
        return Course(np.array(times), np.array(labels))


def read_rows(path: Path, delimiter: str = ",") -> list[Row]:
    """The rows of a text file that are not blank, with their lines, cells without blanks and quotes around them.

    Raises AnnotationError, as ``read_annotation`` does for what is no text of labels; ANN-COLUMNS for an open quote.
    """
    lines = csv.reader(read_text(path).split("\n"), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        return [(lines.line_num, [cell.strip() for cell in cells]) for cells in lines if any(map(str.strip, cells))]
    except csv.Error as error:
        refuse(path, "ANN-COLUMNS", str(error), "cells between delimiters", "correct it", line=lines.line_num)


def with_header(path: Path, rows: Sequence[Row], wanted: Sequence[str]) -> tuple[list[int], Sequence[Row]]:
    """Places of the wanted columns, named in any case in the first row; and the rows after it.

    Raises AnnotationError (ANN-HEADER).
    """
    names = [name.lower() for name in rows[0][1]] if rows else []
    missing = [name for name in wanted if name not in names]
    if missing:
        found = f"columns {', '.join(names[:8])}" if names else "an empty file"
        hint = f"add {', '.join(missing)} to the first line"
        refuse(path, "ANN-HEADER", found, f"columns {', '.join(wanted)}", hint, line=1)
    return [names.index(name) for name in wanted], rows[1:]


def _number(path: Path, line: int | str, cell: str) -> float:
    """A finite number; NaN for an empty cell and the like."""
    if cell.lower() in MISSING:
        return math.nan
    try:
        value = float(cell) if cell.isascii() and "_" not in cell else math.inf
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        refuse(path, "ANN-NUMBER", repr(cell[:40]), "a number", "correct it, or leave it empty", line=line)
    return value
