"""Rows of one stream, and the Parquet bytes that hold them: self-describing, with a checksum."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import affectgrid

_META = b"affectgrid"
_UNITS = {"frame_index": "1-based", "time_s": "s, from the container's start", "feature": "raw encoder output"}
_BOX = pa.field("box", pa.list_(pa.field("element", pa.float32(), nullable=False), 5), nullable=False)


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureTable:
    """Rows of one stream, ascending by ``frame_index`` (audio: by hop number, from 1).

    Args:
        frame_index: int32 [row].
        time_s: float64 [row], NaN where the source has no clock.
        present: bool [row]; elsewhere the feature is meaningless and 0.
        feature: float16 [row, dim].
        box: float32 [row, 5], where faces were looked for: left, top, right, bottom in pixels, and the detector's
            score; NaN where none was found.
    """

    frame_index: NDArray[np.int32]
    time_s: NDArray[np.float64]
    present: NDArray[np.bool_]
    feature: NDArray[np.float16]
    box: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        kinds = {"frame_index": np.int32, "time_s": np.float64, "present": np.bool_, "feature": np.float16}
        for name, kind in kinds.items():
            array, dims = getattr(self, name), 2 if name == "feature" else 1
            if array.dtype != kind or array.ndim != dims or len(array) != len(self.frame_index):
                raise ValueError(f"{name} is {array.dtype} {array.shape}; needs {np.dtype(kind)}, one row per frame")
        if self.box is not None and (self.box.dtype != np.float32 or self.box.shape != (len(self.frame_index), 5)):
            raise ValueError(f"box is {self.box.dtype} {self.box.shape}; needs float32, five values per frame")
        if len(self.frame_index) and (self.frame_index[0] < 1 or np.any(np.diff(self.frame_index) <= 0)):
            raise ValueError("frame_index must ascend, from 1 or later")
        if not np.isfinite(self.feature[self.present]).all():
            raise ValueError("a feature of a present row is not finite in float16")

    @property
    def dim(self) -> int:
        """Length of one feature."""
        return int(self.feature.shape[1])

    def rows(self, chosen: NDArray[np.int64] | slice) -> FeatureTable:
        """Some of the rows, by position."""
        box = None if self.box is None else self.box[chosen]
        return FeatureTable(
            self.frame_index[chosen], self.time_s[chosen], self.present[chosen], self.feature[chosen], box
        )

    @classmethod
    def join(cls, tables: Sequence[FeatureTable]) -> FeatureTable:
        """The rows of all, in order. Boxes are kept only where every table has them."""
        names = [field.name for field in dataclasses.fields(cls) if field.name != "box"]
        columns = [np.concatenate([getattr(table, name) for table in tables]) for name in names]
        boxes = [table.box for table in tables if table.box is not None]
        frame_index, time_s, present, feature = columns
        box = np.concatenate(boxes) if len(boxes) == len(tables) else None
        return cls(frame_index, time_s, present, feature, box)


def schema(dim: int, *, boxes: bool = False) -> pa.Schema:
    """Columns of every feature file; those of a stream of faces that were looked for have `boxes` too."""
    return pa.schema(
        [
            pa.field("frame_index", pa.int32(), nullable=False),
            pa.field("time_s", pa.float64(), nullable=False),
            pa.field("present", pa.bool_(), nullable=False),
            pa.field("feature", pa.list_(pa.field("element", pa.float16(), nullable=False), dim), nullable=False),
            *([_BOX] if boxes else []),
        ]
    )


def to_bytes(table: FeatureTable, facts: Mapping[str, str]) -> bytes:
    """A whole Parquet file: small enough for memory (the longest track of Aff-Wild2 with 512 dimensions: 49 MB)."""
    meta: dict[str, Any] = {**facts, "units": _UNITS, "affectgrid": affectgrid.__version__, "dim": table.dim}
    meta["checksum"] = _checksum(table, meta)
    flat = pa.array(np.ascontiguousarray(table.feature).reshape(-1))
    columns = [
        pa.array(table.frame_index),
        pa.array(table.time_s, from_pandas=False),
        pa.array(table.present),
        pa.FixedSizeListArray.from_arrays(flat, type=schema(table.dim).field("feature").type),
    ]
    if table.box is not None:
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(table.box.reshape(-1)), type=_BOX.type))
    described = schema(table.dim, boxes=table.box is not None).with_metadata(
        {_META: json.dumps(meta, sort_keys=True).encode()}
    )
    sink = pa.BufferOutputStream()
    # No dictionary, no statistics: features are noise to both. Bytes depend on the content alone.
    pq.write_table(
        pa.Table.from_arrays(columns, schema=described), sink, compression="zstd", use_dictionary=False,
        write_statistics=False, write_page_checksum=True,
    )  # fmt: skip
    data: bytes = sink.getvalue().to_pybytes()
    return data


def from_bytes(data: Any) -> tuple[FeatureTable, dict[str, Any]]:
    """Read it back. Raises ValueError, KeyError or a pyarrow error for anything that ``to_bytes`` did not write."""
    stored = pq.read_table(pa.BufferReader(data), page_checksum_verification=True, use_threads=False)
    meta: dict[str, Any] = json.loads((stored.schema.metadata or {})[_META])
    dim = meta["dim"]
    boxes = _BOX.name in stored.schema.names
    if not stored.schema.equals(schema(dim, boxes=boxes)):
        raise ValueError("the columns are not those of a feature file")
    columns = [column.combine_chunks() for column in stored.columns]
    if any(column.null_count for column in columns):
        raise ValueError("a value is missing")
    table = FeatureTable(
        frame_index=columns[0].to_numpy(),
        time_s=columns[1].to_numpy(),
        present=columns[2].to_numpy(zero_copy_only=False),
        feature=columns[3].flatten().to_numpy().reshape(-1, dim),
        box=columns[4].flatten().to_numpy().reshape(-1, 5) if boxes else None,
    )
    if meta.pop("checksum") != _checksum(table, meta):
        raise ValueError("the checksum does not match")
    return table, meta


def _checksum(table: FeatureTable, meta: Mapping[str, Any]) -> str:
    """sha256 over the facts and the columns' values, independent of how Parquet lays them out."""
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for field in dataclasses.fields(table):
        if (array := getattr(table, field.name)) is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
