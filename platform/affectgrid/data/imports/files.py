"""Features that other programs made: .npy, .npz, .csv and .parquet files become a stream of the store.

A file holds one track, whose id is the file's name. Its rows belong to frames of the video, by number, or to times.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from affectgrid.data.features.table import FeatureTable
from affectgrid.errors import CatalogError, Problem
from affectgrid.settings import Settings

SUFFIXES = (".npy", ".npz", ".csv", ".parquet")
_FRAME_NAMES, _TIME_NAMES = ("frame", "frame_index", "frame_id"), ("time_s", "timestamp", "time")
_PRESENT_NAMES = ("present", "success", "face_found")
_NO_FEATURES = {*_FRAME_NAMES, *_TIME_NAMES, *_PRESENT_NAMES, "face_id", "confidence", "valence", "arousal"}
_LARGEST = float(np.finfo(np.float16).max)
_LAST_FRAME = 10**9
_GAP_STEPS = 3.0  # rows further apart than so many median steps have nothing between them; this project's choice


class ImportFormat(Settings):
    """How the rows and columns of the files are read."""

    columns: tuple[str, ...] = Field(
        (), description="tables: the features' columns, with * and ?; default: all numbers but times, flags and labels"
    )
    rate_hz: float | None = Field(
        None, gt=0, description="rows per second, the first at 0 s, for files without times; default: rows are frames"
    )
    first_frame: int = Field(1, ge=0, le=1, description="number of the video's first frame in a column of frames")


@dataclasses.dataclass(frozen=True)
class FeatureFile:
    """One file as it was read.

    Args:
        table: its rows; those with a value that is not finite are absent.
        by_time: whether the rows have times; else they are frames.
        columns: names of the features; of an array their numbers.
        digest: sha256 of the file's bytes.
        num_absent: rows that are absent.
    """

    table: FeatureTable
    by_time: bool
    columns: tuple[str, ...]
    digest: str
    num_absent: int


def read_feature_file(path: Path, wanted: ImportFormat) -> FeatureFile:
    """Read one file. No pickle is ever loaded.

    Raises CatalogError: IMP-READ where it is not what its ending says, IMP-COLUMNS without a column of features,
    IMP-CLOCK where frames or times do not ascend, IMP-RANGE for a value that half precision cannot hold.
    """
    try:
        content = _READERS[path.suffix](path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except Exception as error:  # damage can show up anywhere in a parser
        found = (str(error) or type(error).__name__).splitlines()[0]
        hint = "write it again; arrays of objects (pickles) are never read"
        raise _error("IMP-READ", path, found, f"a {path.suffix} file of numbers", hint) from error
    names = _feature_names(content, wanted.columns, path)
    lengths = {len(content[name]) for name in names}
    if len(lengths) > 1:
        raise _error("IMP-READ", path, f"columns of {sorted(lengths)} rows", "columns of one length", "write it again")
    feature = np.stack([content[name] for name in names], 1)
    present = _flags(content, path) & np.isfinite(feature).all(1)
    feature = np.where(present[:, None], feature, 0)
    _require_range(feature, names, path)
    frames, times = _clock(content, len(feature), wanted, path)
    half = feature.astype(np.float16)
    if times is None:
        table = FeatureTable(frames.astype(np.int32), np.full(len(half), np.nan), present, half)
    else:
        table = _with_gaps(times, present, half)
    return FeatureFile(table, times is not None, tuple(names), digest, int((~present).sum()))


def _array(path: Path) -> dict[str, NDArray[Any]]:
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("a .npz archive")
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiub":
        raise ValueError(f"an array of {array.dtype} {array.shape}")
    return _as_columns(array)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        raise ValueError("a .npy array")
    with content as file:
        arrays = {name: file[name] for name in file.files}
    wide = [name for name, array in arrays.items() if array.ndim == 2 and array.dtype.kind in "fiub"]
    if len(wide) != 1:
        raise ValueError(f"{len(wide)} arrays [row, feature]: {', '.join(wide) or 'none'}")
    rest = {
        name: array
        for name, array in arrays.items()
        if name in _NO_FEATURES and array.ndim == 1 and array.dtype.kind in "fiub"
    }
    return _as_columns(arrays[wide[0]]) | rest


def _csv(path: Path) -> dict[str, NDArray[Any]]:
    return _numbers(pa.csv.read_csv(path))


def _parquet(path: Path) -> dict[str, NDArray[Any]]:
    return _numbers(pq.read_table(path))


_READERS: dict[str, Callable[[Path], dict[str, NDArray[Any]]]] = {
    ".npy": _array,
    ".npz": _arrays,
    ".csv": _csv,
    ".parquet": _parquet,
}


def _as_columns(array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    wide = array.reshape(len(array), -1).astype(np.float64)
    return {str(number): wide[:, number] for number in range(wide.shape[1])}


def _numbers(table: pa.Table) -> dict[str, NDArray[Any]]:
    """The columns that hold numbers or flags, by their names without the blanks that OpenFace writes before them."""
    found = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type):
            values = column.cast(pa.float64()) if not pa.types.is_boolean(column.type) else column.cast(pa.int8())
            found[name.strip()] = values.to_numpy().astype(np.float64)
    return found


def _feature_names(content: Mapping[str, NDArray[Any]], patterns: Sequence[str], path: Path) -> list[str]:
    if not patterns:
        names = [name for name in content if name not in _NO_FEATURES]
    else:
        names = [name for name in content if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    if not names:
        expected = f"columns {', '.join(patterns)}" if patterns else "columns of numbers beside times, flags and labels"
        found = f"columns {', '.join(list(content)[:8]) or 'without a number'}"
        raise _error("IMP-COLUMNS", path, found, expected, "name them with --columns")
    return names


def _flags(content: Mapping[str, NDArray[Any]], path: Path) -> NDArray[np.bool_]:
    """Which rows the program itself calls present; all where it says nothing."""
    rows = len(next(iter(content.values())))
    flags = _first(content, _PRESENT_NAMES)
    if flags is None:
        return np.ones(rows, np.bool_)
    if len(flags) != rows:
        raise _error("IMP-READ", path, f"{len(flags)} flags for {rows} rows", "one flag per row", "write it again")
    return np.asarray(flags > 0, np.bool_)


def _clock(
    content: Mapping[str, NDArray[Any]], rows: int, wanted: ImportFormat, path: Path
) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
    """The number of each row's frame, from 1; and its time where there is one and no frame's number."""
    numbers, times = _first(content, _FRAME_NAMES), _first(content, _TIME_NAMES)
    place = np.arange(1, rows + 1)
    if wanted.rate_hz is not None:
        return place, (place - 1) / wanted.rate_hz
    ascending = numbers if numbers is not None else times
    if ascending is None:
        return place, None
    what = "frames" if numbers is not None else "times"
    if len(ascending) != rows or not np.isfinite(ascending).all():
        raise _error("IMP-CLOCK", path, f"a row without one of its {what}", "one for every row", "write it again")
    if np.any(np.diff(ascending) <= 0):
        row = int(np.flatnonzero(np.diff(ascending) <= 0)[0]) + 2
        found = f"row {row} has {ascending[row - 1]:g} after {ascending[row - 2]:g}"
        raise _error("IMP-CLOCK", path, found, f"{what} that ascend", "one face per file: keep one, and sort the rows")
    if numbers is None:
        return place, ascending
    first = int(numbers[0]) - wanted.first_frame if rows else 0
    if first < 0 or np.any(numbers != np.floor(numbers)):
        found, hint = f"frame {numbers[0]:g} in the first row", "--first-frame 0 if the video's first frame is 0"
        raise _error("IMP-CLOCK", path, found, f"whole numbers from {wanted.first_frame}", hint)
    if rows and numbers[-1] > _LAST_FRAME:
        found, hint = f"frame {numbers[-1]:g} in the last row", "write frames, not times, into this column"
        raise _error("IMP-CLOCK", path, found, f"frames up to {_LAST_FRAME:,}", hint)
    return numbers.astype(np.int64) + 1 - wanted.first_frame, None


def _first(content: Mapping[str, NDArray[Any]], names: Sequence[str]) -> NDArray[Any] | None:
    """In double precision: a column of flags or of unsigned numbers has no differences."""
    return next((content[name].astype(np.float64) for name in names if name in content), None)


def _require_range(feature: NDArray[np.float64], names: Sequence[str], path: Path) -> None:
    beyond = np.abs(feature) > _LARGEST
    if beyond.any():
        row, column = (int(place) for place in np.argwhere(beyond)[0])
        found = f"{feature[row, column]:g} in row {row + 1} of {names[column]}"
        hint = "divide this column, or leave it out with --columns"
        raise _error("IMP-RANGE", path, found, f"at most {_LARGEST:g}: features are kept in half precision", hint)


def _with_gaps(times: NDArray[np.float64], present: NDArray[np.bool_], half: NDArray[np.float16]) -> FeatureTable:
    """Rows by time. A row that is absent goes into each gap, so that nothing is interpolated over it."""
    steps = np.diff(times)
    step = float(np.median(steps)) if len(steps) else math.inf
    gaps = np.flatnonzero(steps > _GAP_STEPS * step)
    times = np.insert(times, gaps + 1, times[gaps] + step)
    return FeatureTable(
        frame_index=np.arange(1, len(times) + 1, dtype=np.int32),
        time_s=times,
        present=np.insert(present, gaps + 1, False),
        feature=np.insert(half, gaps + 1, 0, axis=0),
    )


def _error(code: str, path: Path, found: str, expected: str, hint: str) -> CatalogError:
    return CatalogError(Problem(code, where=str(path), found=found, expected=expected, hint=hint))
