"""A place for files: a folder, or an address of an object store, behind one interface."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import json
import os
import posixpath
import re
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from affectgrid.credentials import without_credentials
from affectgrid.errors import Problem, StoreError
from affectgrid.storage.files import replace_directory, to_json, write_atomic

_BLOCK_BYTES = 8 << 20  # one request each: small ones wait for the network more than they read
NUM_TRANSFERS = 16  # objects at a time: each waits for the network, not for a core


def cache_folder() -> Path:
    """This node's cache, ``AFFECTGRID_CACHE`` or ``~/.cache/affectgrid``; everything in it can be deleted."""
    return Path(os.environ.get("AFFECTGRID_CACHE") or Path.home() / ".cache" / "affectgrid")


def is_uri(place: Path | str) -> bool:
    """Whether a place is an address (``s3://bucket/x``), not a folder."""
    return "://" in str(place)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file under a storage. `name` is relative to the folder that was listed, `modified` in seconds since 1970."""

    name: str
    size: int
    modified: float


class Storage:
    """Files under a root: a folder, or a URI of any file system that pyarrow knows (s3://, gs://, file://).

    Names are relative, with slashes. Writes are atomic: on a disk by a rename, in an object store because a put is. It
    pickles as its address, and every process opens its own connection; credentials come from the environment or the
    machine's role. Failures raise StoreError: STO-URI, STO-WRITE, STO-FULL.
    """

    def __init__(self, root: Path | str | Storage) -> None:
        text = root.uri if isinstance(root, Storage) else str(root)
        if text.startswith("file://"):
            text = unquote(text.removeprefix("file://"))
        # absolute: Ray's workers live in folders of their own
        self.uri: str = text if is_uri(text) else str(Path(text).expanduser().absolute())
        self.path = None if is_uri(text) else Path(self.uri)

    def __reduce__(self) -> tuple[type[Storage], tuple[str]]:
        return Storage, (self.uri,)

    def __repr__(self) -> str:
        return f"Storage({self.address})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Storage) and self.uri == other.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    def __truediv__(self, name: str) -> Storage:
        """The storage under a folder of this one."""
        place, mark, query = self.uri.partition("?") if self.path is None else (self.uri, "", "")
        return Storage(f"{place.rstrip('/')}/{name}{mark}{query}")

    def split(self) -> tuple[Storage, str]:
        """The storage above this one, and this one's name under it."""
        place, mark, query = self.uri.partition("?") if self.path is None else (self.uri, "", "")
        above, _, name = place.rstrip("/").rpartition("/")
        return Storage(f"{above}{mark}{query}"), name

    @property
    def is_local(self) -> bool:
        """Whether it is a folder, which may or may not be shared between nodes."""
        return self.path is not None

    @property
    def folder(self) -> Path:
        """The root as a folder of this machine. Raises StoreError (STO-LOCAL) for an address."""
        if self.path is None:
            raise StoreError(
                Problem(
                    "STO-LOCAL",
                    where=self.address,
                    found="an address",
                    expected="a folder of this machine",
                    hint="this needs a disk: name a folder here",
                )
            )
        return self.path

    @property
    def address(self) -> str:
        """The root for display: a path, or an address without credentials and options."""
        return self.uri if self.is_local else without_credentials(self.uri.partition("?")[0])

    @property
    def fs(self) -> pafs.FileSystem:
        """The file system; names on it come from `at`."""
        return _open(self.uri)[0]

    def at(self, *names: str) -> str:
        """The full name of a file, as `fs` takes it."""
        return posixpath.join(_open(self.uri)[1], *names)

    def show(self, *names: str) -> str:
        """A file's address for a message."""
        return posixpath.join(self.address, *names)

    def read(self, name: str) -> bytes:
        """A file's content. Raises FileNotFoundError, OSError."""
        with self.open(name) as file:
            return bytes(file.read())

    def read_json(self, name: str) -> Any:
        """A file's content as JSON. Raises FileNotFoundError, OSError, ValueError."""
        return json.loads(self.read(name))

    def open(self, name: str) -> BinaryIO:
        """A file to read from, at any position. Raises FileNotFoundError, OSError."""
        file: BinaryIO = self.fs.open_input_file(self.at(name))
        return file

    def write(self, name: str, data: bytes | str) -> None:
        """Write a file, which replaces an older one."""
        content = data.encode() if isinstance(data, str) else data
        with write_errors(self.show(name)):
            if self.path is not None:
                write_atomic(self.path / name, content)
                return
            with self.fs.open_output_stream(self.at(name)) as stream:
                stream.write(content)

    def write_json(self, name: str, content: object) -> None:
        """Write indented JSON."""
        self.write(name, to_json(content))

    def exists(self, name: str = "") -> bool:
        """Whether there is a file, or a folder that holds one."""
        return bool(self.fs.get_file_info(self.at(name) if name else self.at()).type != pafs.FileType.NotFound)

    def list_files(self, folder: str = "", *, recursive: bool = False) -> list[Entry]:
        """Files of a folder, by name; none where there is no such folder. Hidden ones are left out."""
        root = self.at(folder) if folder else self.at()
        infos = self.fs.get_file_info(pafs.FileSelector(root, allow_not_found=True, recursive=recursive))
        found = [_entry(i, posixpath.relpath(i.path, root)) for i in infos if i.type == pafs.FileType.File]
        return sorted((e for e in found if not re.search(r"(^|/)\.", e.name)), key=lambda entry: entry.name)

    def stat(self, name: str) -> Entry:
        """Size and date of a file. Raises FileNotFoundError."""
        info = self.fs.get_file_info(self.at(name))
        if info.type != pafs.FileType.File:
            raise FileNotFoundError(self.show(name))
        return _entry(info, name)

    def list_folders(self, folder: str = "") -> list[str]:
        """Names of the folders in a folder, sorted."""
        infos = self.fs.get_file_info(pafs.FileSelector(self.at(folder) if folder else self.at(), allow_not_found=True))
        return sorted(info.base_name for info in infos if info.type == pafs.FileType.Directory)

    def delete(self, name: str) -> None:
        """Delete a file, or a folder with all that it holds; nothing happens where there is neither."""
        with write_errors(self.show(name)):
            info = self.fs.get_file_info(self.at(name))
            with contextlib.suppress(FileNotFoundError):
                if info.type == pafs.FileType.Directory:
                    self.fs.delete_dir(info.path)
                elif info.type == pafs.FileType.File:
                    self.fs.delete_file(info.path)

    def upload(self, source: Path, name: str) -> None:
        """Copy a file, or a folder's files, here. On a local storage a folder is replaced as a whole."""
        with write_errors(self.show(name)):
            if source.is_file():
                self.write(name, source.read_bytes())
            elif self.path is not None:
                if (self.path / name).resolve() != source.resolve():
                    with replace_directory(self.path / name) as draft:
                        shutil.copytree(source, draft, dirs_exist_ok=True)
            else:
                files = [path for path in source.rglob("*") if path.is_file()]
                names = [posixpath.join(name, path.relative_to(source).as_posix()) for path in files]
                with ThreadPoolExecutor(NUM_TRANSFERS) as pool:
                    list(
                        pool.map(lambda pair: self.write(pair[1], pair[0].read_bytes()), zip(files, names, strict=True))
                    )

    def download(self, name: str, target: Path) -> None:
        """Copy a file to a path, block by block: it need not fit into memory. Raises FileNotFoundError, OSError."""
        local = pafs.LocalFileSystem()
        pafs.copy_files(self.at(name), str(target), self.fs, local, chunk_size=_BLOCK_BYTES, use_threads=False)

    def download_all(self, folder: str, target: Path) -> None:
        """Copy the files of a folder, and of those in it, several at a time. Raises OSError."""
        entries = self.list_files(folder, recursive=True)
        for parent in {(target / entry.name).parent for entry in entries}:
            parent.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(NUM_TRANSFERS) as pool:
            list(pool.map(lambda e: self.download(posixpath.join(folder, e.name), target / e.name), entries))

    def fetch(self, name: str, cache: Path) -> Path:
        """A local copy of a file or folder under `cache`; of a local storage the file itself.

        A copy that is there is taken as it is: give a cache per content, or delete it. Raises FileNotFoundError.
        """
        if self.path is not None:
            if not (self.path / name).exists():
                raise FileNotFoundError(self.show(name))
            return self.path / name
        target = cache / name
        if target.exists():
            return target
        info = self.fs.get_file_info(self.at(name))
        if info.type == pafs.FileType.NotFound:
            raise FileNotFoundError(self.show(name))
        if info.type == pafs.FileType.File:
            return write_atomic(target, self.read(name))
        with replace_directory(target) as draft:
            self.download_all(name, draft)
        return target

    def require_writable(self) -> None:
        """Write and remove a small file, before any work depends on it."""
        name = f".write-test-{uuid.uuid4().hex}"
        self.write(name, b"affectgrid")
        self.delete(name)


@contextlib.contextmanager
def write_errors(where: str) -> Iterator[None]:
    """Turn what goes wrong when `where` is written into a StoreError: STO-FULL or STO-WRITE."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        raise StoreError(
            Problem(
                "STO-FULL" if full else "STO-WRITE",
                where=without_credentials(where),
                found=without_credentials(str(error)),
                expected="space for the file" if full else "a place that can be written",
                hint="free some space and run again: what is stored stays" if full else "choose a place to write to",
            )
        ) from error


def _entry(info: pafs.FileInfo, name: str) -> Entry:
    return Entry(name, info.size or 0, (info.mtime_ns or 0) / 1e9)


@functools.lru_cache(maxsize=256)
def _open(uri: str) -> tuple[pafs.FileSystem, str]:
    """One connection for each address in each process."""
    if not is_uri(uri):
        return pafs.LocalFileSystem(), uri
    if region := parse_qs(urlsplit(uri).query).get("region"):
        # Else the AWS SDK asks EC2's metadata service for it, for each connection, although the address names it: 4 s
        # wherever that service does not answer.
        os.environ.setdefault("AWS_REGION", region[0])
    try:
        fs, base = pafs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(
            Problem(
                "STO-URI",
                where=without_credentials(uri.partition("?")[0]),
                found=without_credentials(str(error).splitlines()[0]),
                expected="a folder, s3://..., gs://...",
                hint="see what pyarrow.fs.FileSystem.from_uri takes",
            )
        ) from None  # the cause holds the address, which may hold a key and its secret
    return fs, base.rstrip("/")
