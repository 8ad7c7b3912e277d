"""The feature store: one Parquet file per stream, fingerprint and track, published whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import posixpath
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from numpy.typing import NDArray

import affectgrid
from affectgrid import storage
from affectgrid.errors import Problem, StoreError

_META = b"affectgrid"
_UNITS = {"frame_index": "1-based", "time_s": "s, from the container's start", "feature": "raw encoder output"}
_PARTS = "_parts"
_PART_NAME = re.compile(r"(\d+)-(\d+)-(\d+)\.parquet")
_UNSAFE = re.compile(r"[/\\\x00-\x1f]")


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureTable:
    """Rows of one stream, ascending by ``frame_index`` (audio: by hop number, from 1).

    Args:
        frame_index: int32 [row].
        time_s: float64 [row], NaN where the source has no clock.
        present: bool [row]; elsewhere the feature means nothing and is 0.
        feature: float16 [row, dim].
    """

    frame_index: NDArray[np.int32]
    time_s: NDArray[np.float64]
    present: NDArray[np.bool_]
    feature: NDArray[np.float16]

    def __post_init__(self) -> None:
        kinds = {"frame_index": np.int32, "time_s": np.float64, "present": np.bool_, "feature": np.float16}
        for name, kind in kinds.items():
            array, dims = getattr(self, name), 2 if name == "feature" else 1
            if array.dtype != kind or array.ndim != dims or len(array) != len(self.frame_index):
                raise ValueError(f"{name} is {array.dtype} {array.shape}; needs {np.dtype(kind)}, one row per frame")
        if len(self.frame_index) and (self.frame_index[0] < 1 or np.any(np.diff(self.frame_index) <= 0)):
            raise ValueError("frame_index must ascend, from 1 or later")
        if not np.isfinite(self.feature[self.present]).all():
            raise ValueError("a feature of a present row is not finite in float16")

    @property
    def dim(self) -> int:
        """Length of one feature."""
        return int(self.feature.shape[1])


class FeatureStore:
    """Features under a root: a local folder, or a URI of any file system that pyarrow knows (s3://, gs://).

    ``<root>/<stream>/<fingerprint>/<track>.parquet``, beside a fingerprint.json that says what was hashed. Unfinished
    chunks wait in ``_parts/<track>/``. A file is visible only when it is whole: local ones are written to a temporary
    name, flushed and renamed; object stores publish at close.
    """

    def __init__(self, root: Path | str) -> None:
        text = str(root)
        if "://" in text:
            self._fs, self._base = _open_uri(text)
        else:
            self._fs, self._base = pafs.LocalFileSystem(), str(Path(text).expanduser().absolute())
        # Absolute: Ray's workers live in folders of their own.
        self.root = text if "://" in text else Path(self._base)
        self._local = isinstance(self._fs, pafs.LocalFileSystem)

    def track_path(self, stream: str, fingerprint: str, track: str) -> str:
        """Where a finished track lies, on the store's file system."""
        return self._at(stream, fingerprint, f"{_safe(track)}.parquet")

    def part_path(self, stream: str, fingerprint: str, track: str, chunk: int, table: FeatureTable) -> str:
        """Where a finished chunk waits. Its name tells its positions, so that other chunk sizes are noticed."""
        first, last = int(table.frame_index[0]), int(table.frame_index[-1])
        return self._at(stream, fingerprint, _PARTS, _safe(track), f"{chunk:06d}-{first - 1}-{last}.parquet")

    def has(self, stream: str, fingerprint: str, track: str) -> bool:
        """Whether a track is finished. Only looks whether the file is there: ``verify`` reads it."""
        return bool(self._fs.get_file_info(self.track_path(stream, fingerprint, track)).is_file)

    def tracks(self, stream: str, fingerprint: str) -> tuple[str, ...]:
        """Ids of the finished tracks, sorted."""
        names = (PurePosixPath(path).name for path in self._files(self._at(stream, fingerprint)))
        return tuple(sorted(name.removesuffix(".parquet") for name in names if name.endswith(".parquet")))

    def unfinished(self, stream: str, fingerprint: str) -> tuple[str, ...]:
        """Ids of tracks that have parts, sorted."""
        return self._folders(self._at(stream, fingerprint, _PARTS))

    def parts(self, stream: str, fingerprint: str, track: str) -> dict[int, tuple[int, int]]:
        """Finished chunks of an unfinished track: number -> 0-based positions (start, stop)."""
        found = {}
        for path in self._files(self._at(stream, fingerprint, _PARTS, _safe(track))):
            if match := _PART_NAME.fullmatch(PurePosixPath(path).name):
                found[int(match[1])] = (int(match[2]), int(match[3]))
        return dict(sorted(found.items()))

    def write_part(self, stream: str, fingerprint: str, track: str, chunk: int, table: FeatureTable) -> None:
        """Keep the features of one chunk; a chunk of that number is replaced. Raises StoreError (STO-WRITE)."""
        path = self.part_path(stream, fingerprint, track, chunk, table)
        self._publish(path, _to_bytes(table, {"track": track, "stream": stream}))
        for other in self._files(posixpath.dirname(path)):
            if other != path and PurePosixPath(other).name.startswith(f"{chunk:06d}-"):
                self._fs.delete_file(other)

    def finalize(
        self, stream: str, fingerprint: str, track: str, num_chunks: int, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Join the chunks 0 .. num_chunks - 1 to the track's file and remove them.

        ``metadata`` should name the ``source_sha256`` and the ``encoder``. Raises StoreError: STO-PARTS when chunks are
        missing or do not follow on one another, STO-DAMAGED, STO-WRITE.
        """
        folder = self._at(stream, fingerprint, _PARTS, _safe(track))
        parts = self.parts(stream, fingerprint, track)
        spans = [parts.get(number) for number in range(num_chunks)]
        stops = [0, *(span[1] for span in spans if span)]
        if num_chunks < 1 or [span and span[0] for span in spans] != stops[:-1]:
            found = f"chunks {[*parts.items()]}"
            expected = f"{num_chunks} chunks that follow on one another"
            raise StoreError(
                Problem(
                    "STO-PARTS",
                    where=folder,
                    found=found,
                    expected=expected,
                    hint="remove this folder and encode again",
                )
            )
        paths = [f"{folder}/{number:06d}-{start}-{stop}.parquet" for number, (start, stop) in parts.items()]
        tables = [self._read(path)[0] for path in paths[:num_chunks]]
        joined = FeatureTable(
            *(np.concatenate([getattr(table, f.name) for table in tables]) for f in dataclasses.fields(FeatureTable))
        )
        facts = {**(metadata or {}), "track": track, "stream": stream, "fingerprint": fingerprint}
        self._publish(self.track_path(stream, fingerprint, track), _to_bytes(joined, facts))
        self._fs.delete_dir(folder)

    def read(self, stream: str, fingerprint: str, track: str) -> FeatureTable:
        """A finished track. Raises StoreError: STO-MISSING, STO-DAMAGED (the checksum or the format is wrong)."""
        return self._read(self.track_path(stream, fingerprint, track))[0]

    def read_metadata(self, stream: str, fingerprint: str, track: str) -> dict[str, Any]:
        """What a track's file says of itself: source_sha256, encoder, units, version; checked as ``read`` does."""
        return self._read(self.track_path(stream, fingerprint, track))[1]

    def write_spec(self, stream: str, fingerprint: str, spec: Mapping[str, object]) -> None:
        """Keep what the fingerprint hashes as fingerprint.json."""
        text = json.dumps(spec, indent=2, sort_keys=True) + "\n"
        self._publish(self._at(stream, fingerprint, "fingerprint.json"), text.encode())

    def read_records(self, *names: str) -> list[dict[str, Any]]:
        """Rows of a JSON Lines file under the root; none when it is not there. Raises StoreError (STO-DAMAGED)."""
        path = self._at(*names)
        try:
            with self._fs.open_input_file(path) as file:
                rows = [json.loads(line) for line in file.read().decode().splitlines()]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("a line is not an object")
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            found, hint = (
                str(error).splitlines()[0],
                "remove it: it is made again, at the cost of looking at every video",
            )
            raise StoreError(
                Problem("STO-DAMAGED", where=path, found=found, expected="one JSON object per line", hint=hint)
            ) from error
        return rows

    def write_records(self, rows: Iterable[Mapping[str, object]], *names: str) -> None:
        """Replace a JSON Lines file under the root. Raises StoreError (STO-WRITE, STO-FULL)."""
        text = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
        self._publish(self._at(*names), text.encode())

    def require_writable(self) -> None:
        """Write and remove a small file, before any work depends on it. Raises StoreError (STO-WRITE, STO-FULL)."""
        path = self._at(f".write-test-{uuid.uuid4().hex}")
        self._publish(path, b"affectgrid")
        with write_errors(path):
            self._fs.delete_file(path)

    def streams(self) -> tuple[str, ...]:
        """Every stream, sorted."""
        return self._folders(self._base)

    def fingerprints(self, stream: str) -> tuple[str, ...]:
        """Every fingerprint of a stream, sorted."""
        return self._folders(self._at(stream))

    def read_spec(self, stream: str, fingerprint: str) -> dict[str, Any]:
        """What ``write_spec`` kept; empty when it is not there or cannot be read."""
        try:
            with self._fs.open_input_file(self._at(stream, fingerprint, "fingerprint.json")) as file:
                spec = json.loads(file.read().decode())
        except (OSError, ValueError):
            return {}
        return spec if isinstance(spec, dict) else {}

    @property
    def address(self) -> str:
        """The root as it may be shown: a path, or an address without its credentials."""
        return self.folder()

    def folder(self, *names: str) -> str:
        """A folder under the root, as it may be shown."""
        path = self._at(*names)
        return path if self._local else f"{self._fs.type_name}://{path}"

    def size_bytes(self, stream: str, fingerprint: str) -> int:
        """Bytes of everything in a fingerprint's folder."""
        selector = pafs.FileSelector(self._at(stream, fingerprint), allow_not_found=True, recursive=True)
        return sum(info.size or 0 for info in self._fs.get_file_info(selector))

    def remove_fingerprint(self, stream: str, fingerprint: str) -> None:
        """Delete a fingerprint's folder with all its tracks. Raises StoreError (STO-WRITE)."""
        with write_errors(self._at(stream, fingerprint)):
            self._fs.delete_dir(self._at(_safe(stream), _safe(fingerprint)))

    def sweep(self, stream: str, fingerprint: str) -> None:
        """Delete parts of finished tracks: a killed run's last encoder may write one while the next run finishes."""
        finished = set(self.tracks(stream, fingerprint))
        for track in self.unfinished(stream, fingerprint):
            if track in finished:
                self._fs.delete_dir(self._at(stream, fingerprint, _PARTS, track))

    def remove(self, stream: str, fingerprint: str, track: str) -> None:
        """Forget a track, finished or not, so that the next run encodes it again."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(self.track_path(stream, fingerprint, track))
        with contextlib.suppress(FileNotFoundError):
            self._fs.delete_dir(self._at(stream, fingerprint, _PARTS, _safe(track)))

    def verify(self) -> list[Problem]:
        """Read everything back; one problem for every file that is damaged."""
        found: list[Problem] = []
        # parts, too: a damaged one would stop the run that joins them
        selector = pafs.FileSelector(self._base, allow_not_found=True, recursive=True)
        for info in sorted(self._fs.get_file_info(selector), key=lambda info: info.path):
            if info.type != pafs.FileType.File or info.extension != "parquet" or info.base_name.startswith("."):
                continue
            try:
                self._read(info.path)
            except StoreError as error:
                found.extend(error.problems)
        return found

    def remove_damaged(self, problems: Iterable[Problem]) -> None:
        """Delete the files that ``verify`` named, so that the next run makes them again. Raises StoreError."""
        for problem in problems:
            if problem.code == "STO-DAMAGED":
                with write_errors(problem.where):
                    self._fs.delete_file(problem.where)

    def _folders(self, folder: str) -> tuple[str, ...]:
        found = self._fs.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
        return tuple(sorted(info.base_name for info in found if info.type == pafs.FileType.Directory))

    def _at(self, *names: str) -> str:
        return posixpath.join(self._base, *names)

    def _files(self, folder: str) -> list[str]:
        """Published files of a folder; temporary ones begin with a dot."""
        found = self._fs.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
        return [i.path for i in found if i.type == pafs.FileType.File and not i.base_name.startswith(".")]

    def _publish(self, path: str, data: bytes) -> None:
        with write_errors(path):
            self._fs.create_dir(posixpath.dirname(path), recursive=True)
            if self._local:
                storage.write_atomic(Path(path), data)
            else:
                with self._fs.open_output_stream(path) as stream:
                    stream.write(data)

    def extent(self, stream: str, fingerprint: str, track: str) -> tuple[int, int]:
        """A finished track's last frame_index (0 without a row) and the length of one feature; reads no feature.

        Only ``read`` checks the checksum. Raises StoreError: STO-MISSING, STO-DAMAGED.
        """
        path = self.track_path(stream, fingerprint, track)
        with _read_errors(path), self._fs.open_input_file(path) as file, pq.ParquetFile(file) as stored:
            dim = stored.schema_arrow.field("feature").type.list_size
            index = stored.read(columns=["frame_index"], use_threads=False).column(0)
            return int(index[-1].as_py()) if len(index) else 0, int(dim)

    def _read(self, path: str) -> tuple[FeatureTable, dict[str, Any]]:
        with _read_errors(path):
            with self._fs.open_input_file(path) as file:
                data = file.read_buffer()
            return _from_bytes(data)


@contextlib.contextmanager
def _read_errors(path: str) -> Iterator[None]:
    hint = "remove it and encode this track again; only this track is affected"
    try:
        yield
    except FileNotFoundError:
        raise StoreError(
            Problem("STO-MISSING", where=path, found="no such file", expected="a finished track", hint="encode it")
        ) from None
    except PermissionError as error:
        raise StoreError(
            Problem("STO-READ", where=path, found=str(error), expected="a readable file", hint="allow reading it")
        ) from error
    # damage can surface anywhere in the parser
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError) as error:
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoreError(
            Problem("STO-DAMAGED", where=path, found=found, expected="the file as it was written", hint=hint)
        ) from error


def _open_uri(uri: str) -> tuple[pafs.FileSystem, str]:
    try:
        fs, base = pafs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        # An address may hold a key and its secret.
        shown, found = (re.sub(r"//[^/]*@", "//", text) for text in (uri, str(error).splitlines()[0]))
        hint = "see what pyarrow.fs.FileSystem.from_uri takes"
        raise StoreError(
            Problem("STO-URI", where=shown, found=found, expected="a folder, s3://..., gs://...", hint=hint)
        ) from None
    return fs, base.rstrip("/")


def schema(dim: int) -> pa.Schema:
    """Columns of every feature file."""
    return pa.schema(
        [
            pa.field("frame_index", pa.int32(), nullable=False),
            pa.field("time_s", pa.float64(), nullable=False),
            pa.field("present", pa.bool_(), nullable=False),
            pa.field("feature", pa.list_(pa.field("element", pa.float16(), nullable=False), dim), nullable=False),
        ]
    )


def _to_bytes(table: FeatureTable, facts: Mapping[str, str]) -> bytes:
    """A whole Parquet file: small enough to hold (the longest track of Aff-Wild2 with 512 dimensions: 49 MB)."""
    meta: dict[str, Any] = {**facts, "units": _UNITS, "affectgrid": affectgrid.__version__, "dim": table.dim}
    meta["checksum"] = _checksum(table, meta)
    flat = pa.array(np.ascontiguousarray(table.feature).reshape(-1))
    columns = [
        pa.array(table.frame_index),
        pa.array(table.time_s, from_pandas=False),
        pa.array(table.present),
        pa.FixedSizeListArray.from_arrays(flat, type=schema(table.dim).field("feature").type),
    ]
    described = schema(table.dim).with_metadata({_META: json.dumps(meta, sort_keys=True).encode()})
    sink = pa.BufferOutputStream()
    # No dictionary, no statistics: features are noise to both. Bytes depend on the content alone.
    pq.write_table(
        pa.Table.from_arrays(columns, schema=described), sink, compression="zstd", use_dictionary=False,
        write_statistics=False, write_page_checksum=True,
    )  # fmt: skip
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _from_bytes(data: Any) -> tuple[FeatureTable, dict[str, Any]]:
    """Raises ValueError, KeyError or a pyarrow error for anything that ``_to_bytes`` did not write."""
    stored = pq.read_table(pa.BufferReader(data), page_checksum_verification=True, use_threads=False)
    meta: dict[str, Any] = json.loads((stored.schema.metadata or {})[_META])
    dim = meta["dim"]
    if not stored.schema.equals(schema(dim)):
        raise ValueError("the columns are not those of a feature file")
    columns = [column.combine_chunks() for column in stored.columns]
    if any(column.null_count for column in columns):
        raise ValueError("a value is missing")
    table = FeatureTable(
        frame_index=columns[0].to_numpy(),
        time_s=columns[1].to_numpy(),
        present=columns[2].to_numpy(zero_copy_only=False),
        feature=columns[3].flatten().to_numpy().reshape(-1, dim),
    )
    if meta.pop("checksum") != _checksum(table, meta):
        raise ValueError("the checksum does not match")
    return table, meta


def _checksum(table: FeatureTable, meta: Mapping[str, Any]) -> str:
    """sha256 over the facts and the columns' values, independent of how Parquet lays them out."""
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for field in dataclasses.fields(table):
        digest.update(np.ascontiguousarray(getattr(table, field.name)).data)
    return digest.hexdigest()


def _safe(track: str) -> str:
    """The id, if it can name a file of its own in a folder."""
    if not track or track.startswith(".") or _UNSAFE.search(track) or len(track.encode()) > 200:
        raise StoreError(
            Problem(
                "STO-NAME",
                where=repr(track),
                found="not a file name",
                expected="no slash, no leading dot",
                hint="rename the track",
            )
        )
    return track


@contextlib.contextmanager
def write_errors(path: str) -> Iterator[None]:
    """Turn what goes wrong when `path` is written into a StoreError: STO-FULL or STO-WRITE."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        hint = "free some space and run again: what is stored stays" if full else "choose a folder that can be written"
        expected = "room for the file" if full else "a store that can be written"
        raise StoreError(
            Problem("STO-FULL" if full else "STO-WRITE", where=path, found=str(error), expected=expected, hint=hint)
        ) from error
