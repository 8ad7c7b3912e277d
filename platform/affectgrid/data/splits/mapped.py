"""A split in memory-mapped files: a plain .npy per column, shared by all processes of a node, evictable by the system.

The folder is a cache. Its name is a hash of what its arrays depend on, it appears atomically, and a process that does
not find it makes it again from the feature store. So a split that is sent to another node carries no data.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectgrid.data.catalog import Track
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.splits.resident import Split, SplitPlan, gather_columns, plan_split
from affectgrid.errors import Problem, StoreError
from affectgrid.storage import replace_directory, write_errors

_VERSION = 2  # raise it when the meaning of a column changes
_NOTE = "split.json"


@dataclasses.dataclass(frozen=True)
class SplitSource:
    """What a node needs to make a mapped split: a store and annotations that the node can read.

    Args:
        store: root of the feature store.
        tracks, fingerprints, name: as ``load_split`` takes them.
    """

    store: Path | str
    tracks: tuple[Track, ...]
    fingerprints: Mapping[str, str]
    name: str

    @classmethod
    def of(cls, plan: SplitPlan) -> SplitSource:
        """The source of a plan."""
        return cls(plan.store.root, plan.tracks, plan.fingerprints, plan.name)

    def plan(self) -> SplitPlan:
        """Read the labels and the extents again."""
        return plan_split(FeatureStore(self.store), self.tracks, fingerprints=self.fingerprints, name=self.name)


@dataclasses.dataclass(frozen=True, eq=False)
class MappedSplit(Split):
    """A split whose columns are read-only memory maps. It pickles by name: the receiver maps its own node's files.

    Args:
        home: the folder of the files.
        source: what they were made from.
        mapped: the fields as they were mapped; one that was replaced since is pickled by value.
    """

    home: Path
    source: SplitSource
    mapped: Mapping[str, Any]

    def __reduce__(self) -> tuple[Any, ...]:
        names = (field.name for field in dataclasses.fields(Split))
        own = {name: getattr(self, name) for name in names if self.mapped.get(name) is not getattr(self, name)}
        return _reopen, (self.home, self.source, own)


def map_split(plan: SplitPlan, cache: Path) -> MappedSplit:
    """The planned split, mapped from the files under `cache`, which are written if they do not exist.

    `cache` should be on a local disk; it takes ``plan.size_bytes``. Raises what reading the features raises, and
    StoreError: STO-FULL, STO-WRITE.
    """
    home = cache / f"{plan.name}-{_VERSION}-{plan.digest()}"
    if not _whole(home):
        with _alone(home):
            if not _whole(home):  # another process may have made it meanwhile
                _write(plan, home)
    return _open(home, SplitSource.of(plan), {})


def _reopen(home: Path, source: SplitSource, own: dict[str, Any]) -> MappedSplit:
    """Map the split on this node. Raises StoreError (STO-CHANGED) where labels or features have changed since."""
    if not _whole(home):
        made = map_split(source.plan(), home.parent)
        if made.home != home:
            found, expected = f"labels or features that make {made.home.name}", home.name
            hint = "do not change the data while a run reads them; start it again"
            raise StoreError(Problem("STO-CHANGED", where=str(home.parent), found=found, expected=expected, hint=hint))
    return _open(home, source, own)


def _open(home: Path, source: SplitSource, own: dict[str, Any]) -> MappedSplit:
    note = json.loads((home / _NOTE).read_text())
    # plain arrays over the maps: a slice of np.memmap would count as a map of its own
    maps = {name: np.asarray(np.load(_file(home, name), mmap_mode="r")) for name in note["columns"]}
    columns, streams = gather_columns(maps)
    mapped: dict[str, Any] = {**columns, "streams": streams}
    values: dict[str, Any] = {
        "name": source.name,
        "track_ids": tuple(track.id for track in source.tracks),
        "recordings": tuple(track.recording for track in source.tracks),
        "offsets": np.array(note["offsets"], np.int64),
        "encoders": note["encoders"],
    }
    return MappedSplit(**(values | mapped | own), home=home, source=source, mapped=mapped)


def _whole(home: Path) -> bool:
    """Whether every file exists with the size that was recorded when it was written."""
    try:
        note = json.loads((home / _NOTE).read_text())
        return all(_file(home, name).stat().st_size == size for name, size in note["columns"].items())
    except (OSError, ValueError, KeyError):
        return False


def _write(plan: SplitPlan, home: Path) -> None:
    """Fill a new folder; it replaces a damaged one."""
    with write_errors(str(home)), replace_directory(home) as draft:
        columns: list[Path] = []

        def allocate(column: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
            columns.append(_file(draft, column))
            return _allocate(columns[-1], dtype, shape)

        split = plan.fill(allocate)
        sizes = {path.stem: path.stat().st_size for path in columns}
        note = {"columns": sizes, "offsets": split.offsets.tolist(), "encoders": split.encoders}
        (draft / _NOTE).write_text(json.dumps(note))


def _allocate(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Zeros in a new .npy file with its disk space reserved: a map of a sparse file dies of SIGBUS on a full disk."""
    size = dtype.itemsize * int(np.prod(shape))
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        if size:
            os.posix_fallocate(file.fileno(), file.tell(), size)
    array: NDArray[Any] = np.load(path, mmap_mode="r+") if size else np.zeros(shape, dtype)
    return array


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Allow one writer at a time on this node: the others wait for its files instead of writing their own."""
    with write_errors(str(home)):
        home.parent.mkdir(parents=True, exist_ok=True)
        lock = (home.parent / f".{home.name}.lock").open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _file(home: Path, column: str) -> Path:
    return home / f"{column}.npy"
