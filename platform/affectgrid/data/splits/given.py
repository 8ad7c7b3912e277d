"""A split of one track whose features are handed over as arrays, not read from a store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affectgrid.data.splits.resident import Split, StreamRows
from affectgrid.errors import ModelError, Problem

SUFFIX = ".feature"  # what the name of a stream's column ends with, as in a split


def given_split(
    columns: Mapping[str, ArrayLike], dims: Mapping[str, int], *, track: str, encoders: Mapping[str, str]
) -> Split:
    """The split of one track.

    Args:
        columns: ``<stream>.feature`` [frame, dim]: a row for each frame of the video, in order; a row of zeros or NaN
            is a frame that lacks the stream. ``time_s`` [frame], which only a model of another frame rate needs.
            A stream that is not given is absent.
        dims: length of a feature of every stream that the model reads.
        track: its name.
        encoders: of the model package.

    Raises ModelError (PRED-INPUT) for no stream at all, arrays of another shape, or values that are no features.
    """
    names = [name for name in dims if columns.get(f"{name}{SUFFIX}") is not None]
    if not names:
        raise _refused(track, "no features", f"one of {', '.join(f'{name}{SUFFIX}' for name in dims)}")
    given = {name: _feature(columns[f"{name}{SUFFIX}"], f"{track}: {name}{SUFFIX}", dims[name]) for name in names}
    num_frames = len(given[names[0]])
    time_s = _times(columns.get("time_s"), num_frames)
    lengths = {name: len(feature) for name, feature in given.items()} | {"time_s": len(time_s)}
    if set(lengths.values()) != {num_frames} or not num_frames:
        raise _refused(track, f"so many rows: {lengths}", "one row for each frame in every column")
    streams = {name: StreamRows.absent(num_frames, dim) for name, dim in dims.items()}
    for name, feature in given.items():
        present = np.asarray(feature.any(1) & np.isfinite(feature).all(1))
        feature[~present] = 0
        streams[name] = StreamRows(feature, present)
    return Split(
        name="predict",
        track_ids=(track,),
        offsets=np.array([0, num_frames], np.int64),
        frame_index=np.arange(1, num_frames + 1, dtype=np.int32),
        time_s=time_s,
        streams=streams,
        va=np.zeros((num_frames, 2), np.float32),
        labelled=np.zeros(num_frames, np.bool_),
        encoders=dict(encoders),
    )


def _feature(value: ArrayLike, where: str, dim: int) -> NDArray[np.float16]:
    """As the store holds them: what the model was trained on was rounded so."""
    array = _array(value, where, np.float64)
    if array.ndim != 2 or array.shape[1] != dim:
        raise _refused(where, f"an array of shape {list(array.shape)}", f"[frame, {dim}]")
    if bool((np.abs(array) > np.finfo(np.float16).max).any()):
        raise _refused(where, "values that half precision cannot hold", "features as an encoder gives them")
    return array.astype(np.float16)


def _times(value: ArrayLike | None, num_frames: int) -> NDArray[np.float64]:
    return np.full(num_frames, np.nan) if value is None else _array(value, "time_s", np.float64)


def _array(value: ArrayLike, where: str, dtype: type[np.float64]) -> NDArray[Any]:
    """Also of an object array of rows, as a data frame may hold it."""
    try:
        return np.array([np.asarray(row, dtype) for row in value], dtype)  # type: ignore[union-attr]
    except (TypeError, ValueError) as error:
        raise _refused(where, str(error), "numbers, in rows of one length") from error


def _refused(where: str, found: str, expected: str) -> ModelError:
    hint = "give each track as docs/package.md says"
    return ModelError(Problem("PRED-INPUT", where=where, found=found, expected=expected, hint=hint))
