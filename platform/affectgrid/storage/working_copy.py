"""A folder on this node in place of a storage: the storage itself where it is a folder, else a copy in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from affectgrid.storage.places import NUM_TRANSFERS, Storage, cache_folder


class WorkingCopy:
    """Files are written under `folder` and put; files of other nodes are fetched. In a folder both do nothing.

    The place is authoritative: a copy in the cache can be deleted at any time. It pickles as its place.
    """

    def __init__(self, place: Storage | Path | str) -> None:
        self.place = place if isinstance(place, Storage) else Storage(place)
        digest = hashlib.sha256(self.place.uri.encode()).hexdigest()[:16]
        self.folder = self.place.path or cache_folder() / "copies" / digest

    def __reduce__(self) -> tuple[type[WorkingCopy], tuple[Storage]]:
        return WorkingCopy, (self.place,)

    def put(self, path: Path) -> None:
        """Upload a file or folder that was written under `folder`. Raises StoreError."""
        if not self.place.is_local:
            self.place.upload(path, self._name(path))

    def fetch(self, path: Path, *, again: bool = False) -> Path:
        """`path`, downloaded if it is not here, or `again`. Raises FileNotFoundError where the place has none."""
        if not self.place.is_local:
            if again:
                self.forget(path)
            self.place.fetch(self._name(path), self.folder)
        elif not path.exists():
            raise FileNotFoundError(path)
        return path

    def fetch_named(self, folder: Path, names: tuple[str, ...]) -> None:
        """Every file of one of these names in the folders of `folder`, several at a time; those that are here stay."""
        if not self.place.is_local:
            found = self.place.list_files(self._name(folder), recursive=True)
            wanted = [folder / entry.name for entry in found if Path(entry.name).name in names]
            with ThreadPoolExecutor(NUM_TRANSFERS) as pool:
                list(pool.map(self.fetch, wanted))

    def place_of(self, path: Path) -> Storage:
        """The place of a folder under `folder`."""
        return self.place / self._name(path)

    def remove(self, path: Path) -> None:
        """Delete a file or folder, here and at the place."""
        if path != self.folder:
            self.place.delete(self._name(path))
        elif path.exists():
            shutil.rmtree(path)
        self.forget(path)

    def forget(self, path: Path) -> None:
        """Delete the copy of a file or folder in the cache; in a folder nothing happens."""
        if not self.place.is_local:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def fetched(place: Storage) -> Path:
    """A file or folder on this node: the place itself, or a new copy in the cache. Raises FileNotFoundError."""
    if place.path is not None:
        return place.path
    above, name = place.split()
    copy = WorkingCopy(above)
    return copy.fetch(copy.folder / name, again=True)


@contextlib.contextmanager
def results(place: Storage) -> Iterator[Path]:
    """A folder to write results into, which are at `place` afterwards. Raises StoreError."""
    if place.path is not None:
        yield place.path
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
        place.upload(Path(folder), "")
