"""Files of a place as paths on this node: each is copied when it is first needed, and evicted when space is short.

A staged path contains the place, the version of the file as it was listed, and its name. So it can be made without
reading the file and is the same on every node, and a file that changes gets another path.

    <cache>/staged/<address, quoted>/@<kind><bytes>-<microseconds since 1970>/<name>

Staged files can be deleted at any time. `staged` protects what it yields from eviction by other processes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import quote, unquote

from affectgrid.credentials import without_credentials
from affectgrid.errors import ConfigError, MediaError, Problem, StoreError
from affectgrid.storage.places import Entry, Storage, cache_folder, write_errors

LIMIT = "AFFECTGRID_STAGED_GB"  # limit of the staged files on a node's disk
_DEFAULT_BYTES = 50 << 30  # or half of the free disk space, where that is less
_COMPONENT = 200  # bytes of a quoted address in one folder's name; file systems take 255
_PATH = re.compile(r".*/staged/(?P<place>.+?)/@(?P<kind>[a-z]+)(?P<size>\d+)-(?P<modified_us>\d+)/(?P<name>.+)")
_SUFFIXES = {"file": "", "folder": "", "tar": ".tar", "zip": ".zip"}

Kind = Literal["file", "folder", "tar", "zip"]


@dataclasses.dataclass(frozen=True)
class Staged:
    """One version of a file, or of a folder of files, of a place.

    Args:
        place: a folder or an address.
        name: under it; of an archive, which is unpacked to a folder, without ``.tar`` or ``.zip``.
        kind: what lies there.
        size: bytes, of a folder those of all its files.
        modified_us: microseconds since 1970, of a folder's newest file.
    """

    place: str
    name: str
    kind: Kind
    size: int
    modified_us: int

    @classmethod
    def of(cls, place: Storage, name: str, kind: Kind, entries: Sequence[Entry]) -> Staged:
        """The version that a listing shows: one entry, or those of a folder. Raises ConfigError (CFG-SECRET)."""
        if without_credentials(place.uri) != place.uri:  # it would be part of paths, and so of every message
            raise ConfigError(
                Problem(
                    "CFG-SECRET",
                    where=place.address,
                    found="an address with credentials",
                    expected="one without",
                    hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role",
                )
            )
        newest = max((entry.modified for entry in entries), default=0.0)
        return cls(place.uri, name, kind, sum(entry.size for entry in entries), round(newest * 1e6))

    @classmethod
    def parse(cls, path: Path) -> Staged | None:
        """What a staged path says; None for any other path."""
        match = _PATH.fullmatch(str(path))
        if match is None:
            return None
        place = unquote(match["place"].replace("/", ""))
        kind: Any = match["kind"]
        return cls(place, match["name"], kind, int(match["size"]), int(match["modified_us"]))

    @property
    def path(self) -> Path:
        """Where it is staged on this node, whether it is there or not."""
        place = quote(self.place, safe="")
        pieces = [place[start : start + _COMPONENT] for start in range(0, len(place), _COMPONENT)]
        return _root().joinpath(*pieces, f"@{self.kind}{self.version}", self.name)

    @property
    def version(self) -> str:
        """Size and date."""
        return f"{self.size}-{self.modified_us}"

    @property
    def address(self) -> str:
        """The original's, as it may be shown."""
        return Storage(self.place).show(self._original)

    def copy(self, target: Path) -> None:
        """Copy it from its place to `target`. Raises as `staged` does."""
        place = Storage(self.place)
        with _copy_errors(self.address):
            entries = place.list_files(self.name) if self.kind == "folder" else [place.stat(self._original)]
            if Staged.of(place, self.name, self.kind, entries) != self:
                raise FileNotFoundError("a file of another size or date")
            if self.kind == "file":
                place.download(self.name, target)
                return
            target.mkdir()
            if self.kind == "folder":
                place.download_all(self.name, target)
            else:
                self._unpack(place, target)

    def is_whole(self) -> bool:
        """Whether the copy is there."""
        try:
            return self.path.stat().st_size == self.size if self.kind == "file" else self.path.is_dir()
        except OSError:
            return False

    @property
    def _original(self) -> str:
        return self.name + _SUFFIXES[self.kind]

    def _unpack(self, place: Storage, target: Path) -> None:
        archive = target / f".archive{_SUFFIXES[self.kind]}"
        place.download(self._original, archive)
        try:
            if self.kind == "tar":
                shutil.unpack_archive(archive, target, "tar", filter="data")
            else:
                shutil.unpack_archive(archive, target, "zip")
        except (shutil.ReadError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            raise MediaError(
                Problem(
                    "MED-ARCHIVE",
                    where=self.address,
                    found=str(error),
                    expected=f"a whole {self.kind} file of face crops",
                    hint="make it again",
                )
            ) from error
        archive.unlink()
        inner = target / Path(self.name).name  # some archives hold the folder, some its files
        if inner.is_dir():
            for path in inner.iterdir():
                path.rename(target / path.name)
            inner.rmdir()


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A path that can be read in the block: a staged one is copied to this node unless it is there; others as they are.

    Space is made by evicting the least recently used files, never one that is being read; so files read at one time can
    exceed the limit. Raises StoreError: STO-CHANGED (the file is gone, or no longer as it was listed), STO-READ,
    STO-FULL; MediaError (MED-ARCHIVE); ConfigError (CFG-VALUE) for a limit that is not a number.
    """
    wanted = Staged.parse(path)
    if wanted is None:
        yield path
        return
    key = hashlib.sha256(str(wanted.path.relative_to(_root())).encode()).hexdigest()[:32]
    record = _root() / ".records" / key
    while True:
        record.parent.mkdir(parents=True, exist_ok=True)
        with _locked(record, fcntl.LOCK_SH):
            if wanted.is_whole():
                os.utime(record)
                yield wanted.path
                return
        with _locked(record, fcntl.LOCK_EX) as file:
            if not wanted.is_whole():  # another process may have fetched it meanwhile
                _make_room(wanted, file)
                draft = _draft(record)
                _remove(draft)  # of a process that was killed
                wanted.copy(draft)
                wanted.path.parent.mkdir(parents=True, exist_ok=True)
                draft.rename(wanted.path)


def show_places(text: str) -> str:
    """A message with the addresses of the originals in place of staged paths."""
    found = Staged.parse(Path(text))
    return found.address if found else text


def _root() -> Path:
    return cache_folder() / "staged"


def _draft(record: Path) -> Path:
    return record.with_suffix(".draft")


@contextlib.contextmanager
def _locked(record: Path, mode: int) -> Iterator[IO[str]]:
    """An entry's record, under a lock of the kernel; made where it is not there."""
    while True:
        with record.open("a+") as file:
            fcntl.flock(file, mode)
            if _is_current(file, record):
                yield file
                return


def _is_current(file: IO[str], record: Path) -> bool:
    """Whether the locked file is still the one of that name: eviction deletes records, too."""
    try:
        return os.fstat(file.fileno()).st_ino == record.stat().st_ino
    except FileNotFoundError:
        record.parent.mkdir(parents=True, exist_ok=True)
        return False


def _make_room(wanted: Staged, own: IO[str]) -> None:
    """Evict until `wanted` fits, and note in its record how much it takes. One process of a node does so at a time."""
    with (_root() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        records = [record for record in (_root() / ".records").iterdir() if not record.suffix]
        sizes = {record: _size(record) for record in records if record.name != Path(own.name).name}
        used = sum(sizes.values())
        limit = _limit_bytes(used)
        for record in sorted(sizes, key=lambda record: record.stat().st_mtime):
            if used + wanted.size <= limit:
                break
            if _evict(record):
                used -= sizes[record]
        own.truncate(0)
        own.write(f"{wanted.size} {wanted.path.relative_to(_root())}")
        own.flush()


def _size(record: Path) -> int:
    """Bytes that an entry takes, or will; 0 for one whose process was killed before it knew."""
    return int(record.read_text().partition(" ")[0] or 0)


def _evict(record: Path) -> bool:
    """Delete an entry; False where it is read, or fetched, at this moment."""
    with record.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        name = file.read().partition(" ")[2]
        if name:
            _remove(_root() / name)
        _remove(_draft(record))
        record.unlink()
        return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _limit_bytes(used: int) -> int:
    text = os.environ.get(LIMIT)
    if not text:
        return min(_DEFAULT_BYTES, (shutil.disk_usage(_root()).free + used) // 2)
    try:
        return int(float(text) * 2**30)
    except ValueError as error:
        raise ConfigError(
            Problem("CFG-VALUE", where=LIMIT, found=repr(text), expected="a number of GiB", hint="for example 50")
        ) from error


@contextlib.contextmanager
def _copy_errors(where: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        hint = "do not change the data while a run reads them; start it again"
        raise StoreError(
            Problem("STO-CHANGED", where=where, found=str(error), expected="the file as it was listed", hint=hint)
        ) from error
    except OSError as error:
        if "No space left" in str(error):
            with write_errors(str(_root())):
                raise
        found = without_credentials(str(error).splitlines()[0])
        hint = "check that the place is reachable, and run again"
        raise StoreError(
            Problem("STO-READ", where=where, found=found, expected="a readable file", hint=hint)
        ) from error
