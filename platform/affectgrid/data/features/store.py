"""The feature store: one Parquet file per stream, fingerprint and track, published atomically."""

from __future__ import annotations

import contextlib
import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from affectgrid.data.features.table import FeatureTable, from_bytes, to_bytes
from affectgrid.errors import Problem, StoreError
from affectgrid.storage import Storage

_PARTS = "_parts"
_PART_NAME = re.compile(r"(\d+)-(\d+)-(\d+)\.parquet")
_UNSAFE = re.compile(r"[/\\\x00-\x1f\ud800-\udfff]")  # the last: bytes of a file's name that are no text


class FeatureStore:
    """Features under a root: a local folder, or a URI of any file system that pyarrow knows (s3://, gs://).

    ``<root>/<stream>/<fingerprint>/<track>.parquet``, beside a fingerprint.json that says what was hashed. Chunks of
    unfinished tracks are in ``_parts/<track>/``. A file is visible only when it is complete: see `Storage`.
    """

    def __init__(self, root: Path | str | Storage) -> None:
        self.storage = Storage(root)
        self.storage.at()  # a URI that cannot be opened is refused here, not at the first use
        self.root = self.storage.path or self.storage.uri

    def track_path(self, stream: str, fingerprint: str, track: str) -> str:
        """The path of a finished track on the store's file system."""
        return self.storage.at(_track_name(stream, fingerprint, track))

    def has(self, stream: str, fingerprint: str, track: str) -> bool:
        """Whether a track is finished. Only checks that the file exists: ``verify`` reads it."""
        return self.storage.exists(_track_name(stream, fingerprint, track))

    def tracks(self, stream: str, fingerprint: str) -> tuple[str, ...]:
        """Ids of the finished tracks, sorted."""
        names = (entry.name for entry in self.storage.list_files(f"{stream}/{fingerprint}"))
        return tuple(sorted(name.removesuffix(".parquet") for name in names if name.endswith(".parquet")))

    def unfinished(self, stream: str, fingerprint: str) -> tuple[str, ...]:
        """Ids of tracks that have parts, sorted."""
        return tuple(self.storage.list_folders(f"{stream}/{fingerprint}/{_PARTS}"))

    def parts(self, stream: str, fingerprint: str, track: str) -> dict[int, tuple[int, int]]:
        """Finished chunks of an unfinished track: number -> 0-based positions (start, stop)."""
        found = {}
        for entry in self.storage.list_files(_parts_name(stream, fingerprint, track)):
            if match := _PART_NAME.fullmatch(entry.name):
                found[int(match[1])] = (int(match[2]), int(match[3]))
        return dict(sorted(found.items()))

    def write_part(self, stream: str, fingerprint: str, track: str, chunk: int, table: FeatureTable) -> None:
        """Keep the features of one chunk; a chunk of that number is replaced. Raises StoreError (STO-WRITE)."""
        folder = _parts_name(stream, fingerprint, track)
        # The name has the positions, so that another chunk size is noticed.
        name = f"{chunk:06d}-{int(table.frame_index[0]) - 1}-{int(table.frame_index[-1])}.parquet"
        self.storage.write(f"{folder}/{name}", to_bytes(table, {"track": track, "stream": stream}))
        for entry in self.storage.list_files(folder):
            if entry.name != name and entry.name.startswith(f"{chunk:06d}-"):
                self.storage.delete(f"{folder}/{entry.name}")

    def finalize(
        self, stream: str, fingerprint: str, track: str, num_chunks: int, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Join the chunks 0 .. num_chunks - 1 to the track's file and remove them.

        ``metadata`` should name the ``source_sha256`` and the ``encoder``. Raises StoreError: STO-PARTS when chunks are
        missing or not contiguous, STO-DAMAGED, STO-WRITE.
        """
        folder = _parts_name(stream, fingerprint, track)
        parts = self.parts(stream, fingerprint, track)
        spans = [parts.get(number) for number in range(num_chunks)]
        stops = [0, *(span[1] for span in spans if span)]
        if num_chunks < 1 or [span and span[0] for span in spans] != stops[:-1]:
            raise StoreError(
                Problem(
                    "STO-PARTS",
                    where=self.storage.show(folder),
                    found=f"chunks {[*parts.items()]}",
                    expected=f"{num_chunks} contiguous chunks",
                    hint="remove this folder and encode again; on several nodes, use a store that all of them can "
                    "reach: a shared folder, or a bucket",
                )
            )
        names = [f"{folder}/{number:06d}-{start}-{stop}.parquet" for number, (start, stop) in parts.items()]
        tables = [self._read(name)[0] for name in names[:num_chunks]]
        self.write_track(stream, fingerprint, track, FeatureTable.join(tables), metadata or {})
        self.storage.delete(folder)

    def write_track(
        self, stream: str, fingerprint: str, track: str, table: FeatureTable, metadata: Mapping[str, str]
    ) -> None:
        """Write a whole track; one that is there is replaced. Raises StoreError (STO-WRITE, STO-FULL, STO-NAME)."""
        facts = {**metadata, "track": track, "stream": stream, "fingerprint": fingerprint}
        self.storage.write(_track_name(stream, fingerprint, track), to_bytes(table, facts))

    def read(self, stream: str, fingerprint: str, track: str) -> FeatureTable:
        """A finished track. Raises StoreError: STO-MISSING, STO-DAMAGED (the checksum or the format is wrong)."""
        return self._read(_track_name(stream, fingerprint, track))[0]

    def read_metadata(self, stream: str, fingerprint: str, track: str) -> dict[str, Any]:
        """The metadata of a track's file: source_sha256, encoder, units, version; checked as by ``read``."""
        return self._read(_track_name(stream, fingerprint, track))[1]

    def extent(self, stream: str, fingerprint: str, track: str) -> tuple[int, int]:
        """A finished track's last frame_index (0 without a row) and the length of one feature; reads no feature.

        Only ``read`` checks the checksum. Raises StoreError: STO-MISSING, STO-DAMAGED.
        """
        name = _track_name(stream, fingerprint, track)
        with (
            _read_errors(self.storage.show(name)),
            self.storage.open(name) as file,
            pq.ParquetFile(file) as stored,
        ):
            dim = stored.schema_arrow.field("feature").type.list_size
            index = stored.read(columns=["frame_index"], use_threads=False).column(0)
            return int(index[-1].as_py()) if len(index) else 0, int(dim)

    def frame_times(self, stream: str, fingerprint: str, track: str) -> NDArray[np.float64]:
        """Times of frames 1, 2, ... of a finished track in seconds, NaN where it has none; reads no feature.

        Raises StoreError as ``extent`` does.
        """
        name = _track_name(stream, fingerprint, track)
        with (
            _read_errors(self.storage.show(name)),
            self.storage.open(name) as file,
            pq.ParquetFile(file) as stored,
        ):
            rows = stored.read(columns=["frame_index", "time_s"], use_threads=False)
            index, time_s = (column.to_numpy() for column in rows.columns)
            times = np.full(int(index[-1]) if len(index) else 0, np.nan)
            times[index - 1] = time_s
            return times

    def write_spec(self, stream: str, fingerprint: str, spec: Mapping[str, object]) -> None:
        """Write what the fingerprint hashes as fingerprint.json."""
        text = json.dumps(spec, indent=2, sort_keys=True) + "\n"
        self.storage.write(f"{stream}/{fingerprint}/fingerprint.json", text)

    def read_spec(self, stream: str, fingerprint: str) -> dict[str, Any]:
        """What ``write_spec`` wrote; empty when it is missing or cannot be read."""
        try:
            spec = self.storage.read_json(f"{stream}/{fingerprint}/fingerprint.json")
        except (OSError, ValueError, RecursionError):
            return {}
        return spec if isinstance(spec, dict) else {}

    def read_records(self, *names: str) -> list[dict[str, Any]]:
        """Rows of a JSON Lines file under the root; none when it is missing. Raises StoreError (STO-DAMAGED)."""
        name = posixpath.join(*names)
        try:
            rows = [json.loads(line) for line in self.storage.read(name).decode().splitlines()]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("a line is not an object")
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError) as error:
            raise StoreError(
                Problem(
                    "STO-DAMAGED",
                    where=self.storage.show(name),
                    found=str(error).splitlines()[0],
                    expected="one JSON object per line",
                    hint="remove it: it is made again, at the cost of reading every video",
                )
            ) from error
        return rows

    def write_records(self, rows: Iterable[Mapping[str, object]], *names: str) -> None:
        """Replace a JSON Lines file under the root. Raises StoreError (STO-WRITE, STO-FULL)."""
        self.storage.write(posixpath.join(*names), "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))

    def require_writable(self) -> None:
        """Write and remove a small file, before any work depends on it. Raises StoreError (STO-WRITE, STO-FULL)."""
        self.storage.require_writable()

    def streams(self) -> tuple[str, ...]:
        """Every stream, sorted. Folders whose names begin with an underscore hold something else."""
        return tuple(name for name in self.storage.list_folders() if not name.startswith("_"))

    def fingerprints(self, stream: str) -> tuple[str, ...]:
        """Every fingerprint of a stream, sorted."""
        return tuple(self.storage.list_folders(stream))

    @property
    def address(self) -> str:
        """The root for display: a path, or an address without its credentials."""
        return self.storage.address

    def folder(self, *names: str) -> str:
        """A folder under the root, for display."""
        return self.storage.show(*names)

    def size_bytes(self, stream: str, fingerprint: str) -> int:
        """Bytes of everything in a fingerprint's folder."""
        return sum(entry.size for entry in self.storage.list_files(f"{stream}/{fingerprint}", recursive=True))

    def remove_fingerprint(self, stream: str, fingerprint: str) -> None:
        """Delete a fingerprint's folder with all its tracks. Raises StoreError (STO-WRITE)."""
        self.storage.delete(f"{_safe(stream)}/{_safe(fingerprint)}")

    def sweep(self, stream: str, fingerprint: str) -> None:
        """Delete parts of finished tracks: a killed run's last encoder may write one while the next run finishes."""
        finished = set(self.tracks(stream, fingerprint))
        for track in self.unfinished(stream, fingerprint):
            if track in finished:
                self.storage.delete(_parts_name(stream, fingerprint, track))

    def remove(self, stream: str, fingerprint: str, track: str) -> None:
        """Forget a track, finished or not, so that the next run encodes it again."""
        self.storage.delete(_track_name(stream, fingerprint, track))
        self.storage.delete(_parts_name(stream, fingerprint, track))

    def verify(self) -> list[Problem]:
        """Read everything back; one problem for each damaged file."""
        found: list[Problem] = []
        # parts, too: a damaged one would stop the run that joins them
        for entry in self.storage.list_files(recursive=True):
            if entry.name.endswith(".parquet"):
                try:
                    self._read(entry.name)
                except StoreError as error:
                    found.extend(error.problems)
        return found

    def remove_damaged(self, problems: Iterable[Problem]) -> None:
        """Delete the files that ``verify`` named, so that the next run makes them again. Raises StoreError."""
        for problem in problems:
            if problem.code == "STO-DAMAGED":
                self.storage.delete(posixpath.relpath(problem.where, self.address))

    def _read(self, name: str) -> tuple[FeatureTable, dict[str, Any]]:
        with _read_errors(self.storage.show(name)):
            return from_bytes(self.storage.read(name))


@contextlib.contextmanager
def _read_errors(where: str) -> Iterator[None]:
    hint = "remove it and encode this track again; only this track is affected"
    try:
        yield
    except FileNotFoundError:
        raise StoreError(
            Problem("STO-MISSING", where=where, found="no such file", expected="a finished track", hint="encode it")
        ) from None
    except PermissionError as error:
        raise StoreError(
            Problem("STO-READ", where=where, found=str(error), expected="a readable file", hint="allow reading it")
        ) from error
    # damage can show up anywhere in the parser
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError, MemoryError) as error:
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoreError(
            Problem("STO-DAMAGED", where=where, found=found, expected="the file as it was written", hint=hint)
        ) from error


def _track_name(stream: str, fingerprint: str, track: str) -> str:
    return f"{stream}/{fingerprint}/{_safe(track)}.parquet"


def _parts_name(stream: str, fingerprint: str, track: str) -> str:
    return f"{stream}/{fingerprint}/{_PARTS}/{_safe(track)}"


def _safe(track: str) -> str:
    """The id, if it can be the name of a file."""
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
