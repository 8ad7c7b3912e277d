"""The files of a data set, in a folder or in a bucket, as paths that `storage.staged` makes readable."""

from __future__ import annotations

import dataclasses
import filecmp
import functools
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from affectgrid.errors import CatalogError, Problem
from affectgrid.storage import Entry, Staged, Storage, staged
from affectgrid.storage.staging import Kind

_NUM_REQUESTS = 16  # at a time: each waits for the network, not for a core
# what file managers, notebooks and archivers leave behind: nothing of a data set
_LITTER = re.compile(
    r"\._.*|\.ds_store|thumbs\.db|ehthumbs\.db|desktop\.ini|__macosx|\.ipynb_checkpoints|\.spotlight-v100|\.trashes"
    r"|\.fseventsd|\.appledouble|@eadir|\$recycle\.bin|system volume information|lost\+found|\.git|~\$.*|.*~",
    re.IGNORECASE,
)
_UPPER_LEVELS = 3  # folders below the root in which a format is looked for
_MANY = 64  # a folder with more of them holds a folder per track
_ARCHIVES: dict[str, Kind] = {".tar": "tar", ".zip": "zip"}


@dataclasses.dataclass(frozen=True)
class Item:
    """A file, or a folder of crops.

    Args:
        id: of its track: the name without the suffix of a file.
        name: under the data set's root, with slashes.
        path: itself in a folder; else where it is staged.
    """

    id: str
    name: str
    path: Path


def is_litter(name: str) -> bool:
    """Whether a file or a folder is of a tool, not of the data: ``._x``, ``.DS_Store``, ``__MACOSX`` and the like."""
    return bool(_LITTER.fullmatch(name))


class Tree:
    """The files under a data set's root, without litter. Listings only: nothing is read."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @property
    def root(self) -> Path | str:
        """The root, as a catalog shows it."""
        return self.storage.path or self.storage.address

    def files(self, folder: str) -> list[Item]:
        """Files of a folder, by name; none where there is no such folder."""
        if self.storage.path is None:
            return [self._staged(folder, entry, "file") for entry in self._entries(folder)]
        here = self.storage.path / folder
        paths = sorted(p for p in here.iterdir() if not (is_litter(p.name) or p.is_dir())) if here.is_dir() else []
        return [Item(path.stem, path.relative_to(self.storage.path).as_posix(), path) for path in paths]

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder, sorted."""
        if self.storage.path is None:
            return [name for name in self.storage.list_folders(folder) if not is_litter(name)]
        here = self.storage.path / folder
        return sorted(p.name for p in here.iterdir() if p.is_dir() and not is_litter(p.name)) if here.is_dir() else []

    @functools.cached_property
    def upper_folders(self) -> tuple[str, ...]:
        """The root, as an empty name, and the folders at most three below it; not those in a folder of many."""
        found, level = [""], [""]
        for _ in range(_UPPER_LEVELS):
            below = [[f"{name}/{one}".lstrip("/") for one in self.folders(name)] for name in level]
            level = [name for names in below if len(names) <= _MANY for name in names if not name.startswith(".")]
            found += level
        return tuple(found)

    def find(self, *names: str) -> str | None:
        """The first of the upper folders whose last names are these, in any case: ``("label_segments", "arousal")``."""
        ending = [name.lower() for name in names]
        return next((name for name in self.upper_folders if name.lower().split("/")[-len(ending) :] == ending), None)

    def crops(self, folder: str) -> list[Item]:
        """The tracks of a folder of crops: folders, and archives, which are always staged."""
        plain = [f"{folder}/{name}".lstrip("/") for name in self.folders(folder)]
        if self.storage.path is None:
            with ThreadPoolExecutor(_NUM_REQUESTS) as pool:  # its version depends on all its files
                listings = pool.map(self.storage.list_files, plain)
                versions = [
                    Staged.of(self.storage, name, "folder", found) for name, found in zip(plain, listings, strict=True)
                ]
            found = [Item(PurePosixPath(item.name).name, item.name, item.path) for item in versions]
        else:
            found = [Item(PurePosixPath(name).name, name, self.storage.path / name) for name in plain]
        archives = [
            self._staged(folder, entry, _ARCHIVES[suffix])
            for entry in self._entries(folder)
            if (suffix := PurePosixPath(entry.name).suffix) in _ARCHIVES
        ]
        return sorted([*found, *archives], key=lambda item: item.name)

    def bad_link(self, item: Item) -> str | None:
        """Where a link leads that leaves the root, or that there is nothing; None for everything else."""
        if self.storage.path is None:
            return None
        try:
            target = (self.storage.path / item.name).resolve(strict=True)
        except (OSError, RuntimeError):  # of a circle of links, before Python 3.13
            return "nothing"
        return None if target.is_relative_to(self.storage.path) else str(target)

    def fetch(self, paths: Iterable[Path]) -> None:
        """Stage small files, several at a time. Raises StoreError."""
        if self.storage.path is None:
            with ThreadPoolExecutor(_NUM_REQUESTS) as pool:
                list(pool.map(_stage, paths))

    def _entries(self, folder: str) -> list[Entry]:
        try:
            return [entry for entry in self.storage.list_files(folder) if not is_litter(entry.name)]
        except UnicodeError as error:  # Linux takes any bytes, and pyarrow only text
            raise CatalogError(
                Problem(
                    "CAT-NAME",
                    where=repr(folder),
                    found=f"a name that is no text: {error}",
                    expected="names in UTF-8",
                    hint="rename the folder, or the files in it",
                )
            ) from error

    def _staged(self, folder: str, entry: Entry, kind: Kind) -> Item:
        name = f"{folder}/{entry.name}".lstrip("/")
        # an archive is unpacked to a folder of the track's name
        target = name if kind == "file" else name.removesuffix(f".{kind}")
        return Item(PurePosixPath(entry.name).stem, name, Staged.of(self.storage, target, kind, [entry]).path)


def same_content(first: Path, second: Path) -> bool:
    """Whether two files, or two folders' files, are equal byte by byte. Raises OSError, and as `staged` does."""
    listed = [Staged.parse(path) for path in (first, second)]
    if listed[0] and listed[1] and listed[0].kind == listed[1].kind and listed[0].size != listed[1].size:
        return False  # without fetching them
    with staged(first) as one, staged(second) as other:
        if one.samefile(other):
            return True
        if one.is_dir() != other.is_dir():
            return False
        names = _names(one) if one.is_dir() else [""]
        if one.is_dir() and names != _names(other):
            return False
        sizes = [[(folder / name).stat().st_size for name in names] for folder in (one, other)]
        return sizes[0] == sizes[1] and all(filecmp.cmp(one / name, other / name, shallow=False) for name in names)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file() and not is_litter(path.name))


def file_size(path: Path) -> int:
    """Bytes of a file, as it was listed where it is staged. Raises OSError."""
    listed = Staged.parse(path)
    return listed.size if listed else path.stat().st_size


def _stage(path: Path) -> None:
    with staged(path):
        pass
