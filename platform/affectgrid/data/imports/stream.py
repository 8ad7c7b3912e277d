"""Bring files of features into the store as a stream: each once, with where they come from."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from affectgrid.data.features.imported import ENCODED, fingerprint_of, imported_streams
from affectgrid.data.features.sources import SourceRecord, load_sources, save_sources
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.imports.files import SUFFIXES, FeatureFile, ImportFormat, read_feature_file
from affectgrid.data.splits.resident import FRAMES
from affectgrid.errors import CatalogError, Problem
from affectgrid.media.sampling import Source

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclasses.dataclass(frozen=True)
class ImportReport:
    """What came of an import.

    Args:
        stream, fingerprint: where the features are.
        dim: numbers per row.
        clock: what rows belong to, frames or time.
        added, replaced, unchanged: ids of tracks; a file is replaced where its bytes have changed.
        rows, absent: of all files that were read; absent rows hold a value that is not finite, or are flagged.
        strangers: files that no track of the data is called after.
        missing: tracks of the data without a file.
        problems: of files that were left out.
    """

    stream: str
    fingerprint: str
    dim: int
    clock: str
    added: tuple[str, ...]
    replaced: tuple[str, ...]
    unchanged: tuple[str, ...]
    rows: int
    absent: int
    strangers: tuple[str, ...]
    missing: tuple[str, ...]
    problems: tuple[Problem, ...]


def find_files(files: str) -> list[Path]:
    """The feature files of a folder, or those that a pattern with * matches, sorted.

    Raises CatalogError: IMP-NONE for no file, IMP-TRACK for two files of one track.
    """
    folder, pattern = (Path(files), "*") if Path(files).is_dir() else (Path(files).parent, Path(files).name)
    found = sorted(folder.glob(pattern))
    paths = [path for path in found if path.suffix in SUFFIXES and path.is_file() and not path.name.startswith(".")]
    if not paths:
        expected = f"files *{', *'.join(SUFFIXES)}, one per track"
        hint = "give the folder that holds them, or a pattern in quotes"
        raise CatalogError(Problem("IMP-NONE", where=files, found="no such file", expected=expected, hint=hint))
    by_track: dict[str, Path] = {}
    for path in paths:
        if path.stem in by_track:
            hint = f"remove one, or give a pattern such as '*{path.suffix}'"
            found_here = f"the same track as {by_track[path.stem].name}"
            raise CatalogError(
                Problem("IMP-TRACK", where=str(path), found=found_here, expected="one file per track", hint=hint)
            )
        by_track[path.stem] = path
    return paths


def import_stream(
    store: FeatureStore,
    name: str,
    files: Sequence[Path],
    source: str,
    wanted: ImportFormat,
    tracks: Collection[str] | None = None,
) -> ImportReport:
    """Keep `files` as the stream `name`. `tracks`: ids of a data set, of which alone files are read; None: all.

    A file that cannot be read is left out and reported; what is stored already stays. All files must have the columns
    and the clock of the first. `source` says what made them ("OpenFace 2.2, AU intensities"); it is part of the
    fingerprint, and a name holds features of one source. Raises CatalogError: IMP-NAME, IMP-SOURCE, IMP-TRACK where no
    file belongs to a track, and the problems of all files where none can be read; StoreError.
    """
    _require_name(name)
    chosen = [path for path in files if tracks is None or path.stem in tracks]
    if not chosen:
        found, expected = f"{len(files)} files, such as {files[0].name}", "files named after tracks of the data"
        hint = f"rename them: tracks are called {', '.join(sorted(tracks or ())[:3])}"
        raise CatalogError(Problem("IMP-TRACK", where=str(files[0].parent), found=found, expected=expected, hint=hint))
    importer = _Importer(store, name, source, wanted)
    for path in chosen:
        importer.take(path)
    return importer.finish(
        strangers=tuple(path.name for path in files if path not in chosen),
        missing=tuple(sorted(set(tracks or ()) - {path.stem for path in chosen})),
    )


class _Importer:
    """The first readable file decides fingerprint, columns and clock."""

    def __init__(self, store: FeatureStore, name: str, source: str, wanted: ImportFormat) -> None:
        self.store, self.name, self.source, self.wanted = store, name, source, wanted
        self.fingerprint = ""
        self.first: FeatureFile | None = None
        self.records: dict[str, SourceRecord] = {}
        self.done: dict[str, list[str]] = {"added": [], "replaced": [], "unchanged": []}
        self.rows = self.absent = 0
        self.problems: list[Problem] = []

    def take(self, path: Path) -> None:
        try:
            file = read_feature_file(path, self.wanted)
            if self.first is None:
                self._begin(file)
            self._require_alike(path, file)
        except CatalogError as error:
            if error.problems[0].code == "IMP-SOURCE":
                raise
            self.problems += error.problems
            return
        self.rows, self.absent = self.rows + len(file.table.present), self.absent + file.num_absent
        track = path.stem
        known = self.records.get(track)
        stored = self.store.has(self.name, self.fingerprint, track)
        if stored and known is not None and known.source.digest == file.digest:
            self.done["unchanged"].append(track)
            return
        facts = {"source_sha256": file.digest, "encoder": self.source, "file": path.name}
        self.store.write_track(self.name, self.fingerprint, track, file.table, facts)
        self.records[track] = SourceRecord(path.name, Source(len(file.table.present), 0.0, False, file.digest))
        self.done["replaced" if stored else "added"].append(track)

    def finish(self, *, strangers: tuple[str, ...], missing: tuple[str, ...]) -> ImportReport:
        if self.first is None:
            raise CatalogError(*self.problems)
        save_sources(self.store, self.name, self.fingerprint, self.records)
        done: Mapping[str, tuple[str, ...]] = {kind: tuple(names) for kind, names in self.done.items()}
        return ImportReport(
            stream=self.name,
            fingerprint=self.fingerprint,
            dim=len(self.first.columns),
            clock=_clock_of(self.first),
            added=done["added"],
            replaced=done["replaced"],
            unchanged=done["unchanged"],
            rows=self.rows,
            absent=self.absent,
            strangers=strangers,
            missing=missing,
            problems=tuple(self.problems),
        )

    def _begin(self, file: FeatureFile) -> None:
        """Claim the name, and learn what it holds already."""
        stream = {"model": self.source, "clock": _clock_of(file), "dim": len(file.columns), "columns": [*file.columns]}
        spec = {"imported": self.source, "stream": stream}
        self.fingerprint = fingerprint_of(spec)
        for other in imported_streams(self.store):
            if other.name == self.name and other.fingerprint != self.fingerprint:
                known = self.store.read_spec(other.name, other.fingerprint).get("stream", {})
                found = f"{self.source!r}, {stream['dim']} columns by {stream['clock']}"
                expected = f"{other.source!r}, {known.get('dim')} columns by {known.get('clock')}, as it holds already"
                hint = "import them under another name"
                raise CatalogError(Problem("IMP-SOURCE", where=self.name, found=found, expected=expected, hint=hint))
        self.store.write_spec(self.name, self.fingerprint, spec)
        self.records = load_sources(self.store, self.name, self.fingerprint)
        self.first = file

    def _require_alike(self, path: Path, file: FeatureFile) -> None:
        assert self.first is not None
        if file.columns != self.first.columns or file.by_time != self.first.by_time:
            found = f"{len(file.columns)} columns by {_clock_of(file)}: {', '.join(file.columns[:4])}"
            expected = f"{len(self.first.columns)} by {_clock_of(self.first)}, as in the first file"
            hint = "name the columns that all files have with --columns"
            raise CatalogError(Problem("IMP-COLUMNS", where=str(path), found=found, expected=expected, hint=hint))


def _clock_of(file: FeatureFile) -> str:
    return "time" if file.by_time else FRAMES


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name in ENCODED:
        found, hint = repr(name), "choose a name such as landmarks"
        expected = f"small letters, digits and _, and not {' or '.join(ENCODED)}, which are encoded here"
        raise CatalogError(Problem("IMP-NAME", where="--stream", found=found, expected=expected, hint=hint))
