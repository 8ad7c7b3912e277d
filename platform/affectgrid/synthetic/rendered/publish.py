"""Publish a rendered video into the corpus: by a rename on a disk, by an upload to a bucket."""

from __future__ import annotations

import contextlib
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from affectgrid.storage import Storage


@contextlib.contextmanager
def draft_folder(root: Storage, name: str) -> Iterator[Path]:
    """A folder to render in: beside the corpus, from where files are renamed, or on the node's own disk."""
    if root.path is None:
        with tempfile.TemporaryDirectory(prefix="affectgrid-render-") as folder:
            yield Path(folder)
        return
    draft = root.path / f".partial-{name}"
    shutil.rmtree(draft, ignore_errors=True)  # left by a rendering that was broken off
    draft.mkdir(parents=True)
    yield draft
    shutil.rmtree(draft)


def publish(source: Path, root: Storage, name: str) -> None:
    """Move a file or a folder to its place; in a bucket a folder becomes one archive, not thousands of objects."""
    if root.path is not None:
        target = root.path / name
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    elif source.is_dir():
        archive = source.with_suffix(source.suffix + ".tar")
        with tarfile.open(archive, "w") as file:
            for path in sorted(source.iterdir()):
                file.add(path, path.name, filter=_dateless)
        root.upload(archive, f"{name}.tar")
    else:
        root.upload(source, name)


def _dateless(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""  # equal bytes for equal crops
    return member
