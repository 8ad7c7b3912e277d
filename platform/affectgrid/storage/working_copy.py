"""A folder on this node that stands for a place: the place itself where it is a folder, else a copy in the cache."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from affectgrid.storage.places import Storage, cache_folder


class WorkingCopy:
    """Files are written under `folder` and put; what another node has put is fetched. In a folder both do nothing.

    The place is the truth: a copy in the cache can be thrown away at any time. It pickles as its place.
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

    def remove(self, path: Path) -> None:
        """Delete a file or folder, here and at the place."""
        self.place.delete(self._name(path))
        self.forget(path)

    def forget(self, path: Path) -> None:
        """Delete the copy of a file or folder in the cache; in a folder nothing happens."""
        if not self.place.is_local:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()
