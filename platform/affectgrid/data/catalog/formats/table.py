"""One table of labels, labels.csv or labels.parquet, for data of your own.

    labels.csv      track,frame,valence,arousal     or time_s in place of frame; or neither: a row for a whole track
    <any folder>/<track>.mp4, cropped_aligned/<track>/00001.jpg

Frames count from 1. Further columns, the same in all rows of a track: `split` (train, validation, test), `recording`
(what several tracks were cut from) and `person` (who is seen). An empty valence or arousal is no label.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from affectgrid.data.catalog.formats.rows import MISSING
from affectgrid.data.catalog.layout import SplitName, find_layout
from affectgrid.data.catalog.points import Clock, Course, LabelPoints, Points, Scale, Version, refuse, version
from affectgrid.data.catalog.reading import Media, make_catalog
from affectgrid.data.catalog.tracks import Catalog
from affectgrid.data.catalog.tree import Item, Tree
from affectgrid.errors import AnnotationError, CatalogError, Problem
from affectgrid.storage import staged

_FILES = ("labels.csv", "labels.parquet")
_SPLITS: dict[str, SplitName] = {
    "": "train", "train": "train", "validation": "validation", "val": "validation", "test": "test",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class LabelTable:
    """A table, sorted by track; within one in the file's order.

    Args:
        tracks: their names, ascending.
        offsets: int64 [track + 1]; track i has the rows offsets[i]:offsets[i + 1].
        row: float64 [row], from 1, in the file.
        at: float64 [row], frames or seconds; None for rows of whole tracks.
        clock: which.
        va: float64 [row, 2], NaN where there is none.
        bad: by row of the file, the cells of valence and arousal that are no numbers.
        facts: of each track, its other columns.
    """

    tracks: tuple[str, ...]
    offsets: NDArray[np.int64]
    row: NDArray[np.int64]
    at: NDArray[np.float64] | None
    clock: Clock
    va: NDArray[np.float64]
    bad: dict[int, str]
    facts: tuple[dict[str, str], ...]


def recognise(tree: Tree) -> bool:
    """Whether there is such a file at the top."""
    return bool(_tables(tree))


def read(tree: Tree) -> Catalog:
    """Tracks are in the splits that the table says, in training where it says none; those that it lacks are tests."""
    problems: list[Problem] = []
    layout = find_layout(tree)
    media = Media.find(tree, layout, problems)
    files = _tables(tree)
    if len(files) != 1:
        found = " and ".join(item.name for item in files) or "neither"
        raise CatalogError(Problem("CAT-TABLE", str(tree.root), found, f"one of {', '.join(_FILES)}", "keep one"))
    path = files[0].path
    try:
        table = read_table(path, version(path))
    except AnnotationError as error:
        raise CatalogError(*problems, *error.problems) from error
    tracks = []
    for name, facts in zip(table.tracks, table.facts, strict=True):
        split = _SPLITS.get(facts.get("split", "").lower())
        if split is None:
            expected, hint = "train, validation or test", "correct the column split"
            problems.append(Problem("CAT-SPLIT", f"{path} {name!r}", repr(facts["split"]), expected, hint))
            continue
        labels = LabelPoints(path, key=name, read_points=read_points)
        source, subject = facts.get("recording", ""), facts.get("person", "")
        tracks.append(media.track(name, split, labels, source=source, subject=subject))
    return make_catalog(tree.root, [*tracks, *media.without_labels(tracks)], problems, layout)


def read_points(source: LabelPoints) -> Points:
    """Labels of one track. Raises AnnotationError: ANN-NUMBER, ANN-RANGE, ANN-TIME, and as ``read_table``."""
    table = read_table(source.path, version(source.path))
    place = table.tracks.index(source.key)
    rows = slice(int(table.offsets[place]), int(table.offsets[place + 1]))
    va, numbers = table.va[rows].copy(), table.row[rows]
    odd: list[Problem] = []
    scales = (source.valence_scale, source.arousal_scale)
    for row, code, found, expected in _faults(table, va, numbers, scales):
        where = f"row {int(numbers[row])}"
        try:
            refuse(source.path, code, found, expected, "correct it", line=where)
        except AnnotationError as error:
            if source.on_bad == "refuse":
                raise
            odd.extend(error.problems)
            va[row] = np.nan
    at = _places(source, table, rows)
    return Points(Course(at, va[:, 0]), Course(at, va[:, 1]), table.clock, tuple(odd))


def _places(source: LabelPoints, table: LabelTable, rows: slice) -> NDArray[np.float64]:
    """Frames or times of a track's rows; none of a whole track. Raises AnnotationError (ANN-TIME, ANN-HEADER)."""
    numbers = table.row[rows]
    if table.at is None:
        if len(numbers) != 1:
            found, expected = f"{len(numbers)} rows of {source.key!r}", "a column frame or time_s, or one row a track"
            refuse(source.path, "ANN-HEADER", found, expected, "add it")
        return np.zeros(0)
    at = table.at[rows]
    wrong = ~(np.diff(at, prepend=-np.inf) > 0) | ~np.isfinite(at)
    expected = "times that ascend"
    if table.clock == "frames":
        wrong |= (at < 1) | (at != np.floor(at))
        expected = "whole numbers from 1 that ascend"
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        hint = "sort the rows of each track, and count from 1"
        refuse(source.path, "ANN-TIME", f"{at[first]:g}", expected, hint, line=f"row {int(numbers[first])}")
    return at


def _faults(
    table: LabelTable, va: NDArray[np.float64], numbers: NDArray[np.int64], scales: Sequence[Scale]
) -> list[tuple[int, str, str, str]]:
    """Place in the track, code, what was found and expected, of each wrong row."""
    low, high = np.array([(scale.low, scale.high) for scale in scales]).T
    outside = np.flatnonzero(((va < low) | (va > high)).any(axis=1))
    faults = [
        (int(row), "ANN-RANGE", f"{va[row, 0]:g}, {va[row, 1]:g}", f"values of the scale {scales[0]}")
        for row in outside
    ]
    if table.bad:
        wrong = [row for row, number in enumerate(numbers.tolist()) if number in table.bad]
        faults += [(row, "ANN-NUMBER", repr(table.bad[int(numbers[row])]), "a number") for row in wrong]
    return sorted(faults)


@functools.lru_cache(maxsize=2)
def read_table(path: Path, version: Version) -> LabelTable:
    """One version of a table. Raises AnnotationError: ANN-TABLE where it is none, ANN-HEADER, ANN-NUMBER, ANN-FACT."""
    try:
        with staged(path) as local:
            content = _read_csv(local) if path.suffix == ".csv" else pq.read_table(local)
        return _sorted_table(path, content)
    except (pa.ArrowException, OSError, ValueError) as error:
        refuse(path, "ANN-TABLE", str(error).splitlines()[0], "a CSV or Parquet table", "write it again")


def _sorted_table(path: Path, content: pa.Table) -> LabelTable:
    columns = {name.strip().lower(): column for name, column in zip(content.column_names, content.columns, strict=True)}
    missing = [name for name in ("track", "valence", "arousal") if name not in columns]
    if missing:
        found = f"columns {', '.join(columns)}"
        refuse(path, "ANN-HEADER", found, "track, valence and arousal", f"add {', '.join(missing)}", line=1)
    clock: Clock = "frames" if "frame" in columns else "seconds" if "time_s" in columns else "track"
    bad: dict[int, str] = {}
    va = np.stack([_numbers(columns[name], bad) for name in ("valence", "arousal")], axis=1)
    at: NDArray[np.float64] | None = None
    wrong: dict[int, str] = {}
    if clock != "track":
        at = _numbers(columns["frame" if clock == "frames" else "time_s"], wrong)
        if wrong:
            row, cell = next(iter(wrong.items()))
            refuse(path, "ANN-NUMBER", repr(cell), "a frame or a time", "correct it", line=f"row {row}")
    names = _texts(columns["track"])
    order = np.argsort(names, kind="stable")
    tracks, begins = np.unique(names[order], return_index=True)
    firsts = order[begins]
    others = {name: _texts(columns[name]) for name in ("split", "recording", "person") if name in columns}
    for name, texts in others.items():
        differs = np.flatnonzero(texts[order] != np.repeat(texts[firsts], np.diff([*begins, len(names)])))
        if len(differs):
            row = int(order[differs[0]])
            found, expected = f"{name} {str(texts[row])!r} of {str(names[row])!r}", "the same in all rows of a track"
            refuse(path, "ANN-FACT", found, expected, "correct it", line=f"row {row + 1}")
    return LabelTable(
        tracks=tuple(tracks.tolist()),
        offsets=np.array([*begins, len(names)], dtype=np.int64),
        row=order + 1,
        at=None if at is None else at[order],
        clock=clock,
        va=va[order],
        bad=bad,
        facts=tuple({name: str(texts[first]) for name, texts in others.items()} for first in firsts),
    )


def _tables(tree: Tree) -> list[Item]:
    return [item for item in tree.files("") if item.name.lower() in _FILES]


def _read_csv(path: Path) -> pa.Table:
    """All columns as text, so that an odd cell is found where it is."""
    with path.open(encoding="utf-8-sig") as file:
        names = file.readline().strip("\r\n").split(",")
    texts = pa.csv.ConvertOptions(column_types={name.strip('"'): pa.string() for name in names})
    return pa.csv.read_csv(path, convert_options=texts)


def _texts(column: Any) -> NDArray[np.str_]:
    texts = pc.utf8_trim_whitespace(pc.fill_null(column.cast(pa.string()), ""))
    return np.array(texts.to_pylist(), dtype=np.str_)


def _numbers(column: Any, bad: dict[int, str]) -> NDArray[np.float64]:
    """Float64 [row], NaN where empty; what is no finite number is NaN too, and goes to `bad` by its row from 1."""
    if not pa.types.is_string(column.type):
        values = np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
        bad.update({int(row) + 1: str(values[row]) for row in np.flatnonzero(np.isinf(values))})
        return np.where(np.isinf(values), np.nan, values)
    texts = pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(column, "")))
    empty = pc.is_in(texts, value_set=pa.array(sorted(MISSING)))
    plain = pc.match_substring_regex(texts, r"^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$")
    for row in np.flatnonzero(~(plain.to_numpy() | empty.to_numpy())):
        bad[int(row) + 1] = str(texts[int(row)])[:40]
    return np.asarray(pc.if_else(plain, texts, None).cast(pa.float64()).to_numpy(), dtype=np.float64)
