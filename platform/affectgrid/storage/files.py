"""Atomic files and folders on a disk: a reader, or the next process after a kill, sees the old content or the new."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


def write_atomic(path: Path, data: bytes | str) -> Path:
    """Write a file that is on disk when the call returns: temporary name, flush, rename, flush the folder.

    A reader sees the old content or the new. Missing parents are made. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        flush(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)
    return path


def write_json(path: Path, content: object) -> Path:
    """Write indented JSON as `write_atomic` does."""
    return write_atomic(path, to_json(content))


def to_json(content: object) -> str:
    """Indented JSON with a line end; what JSON does not know is written as text."""
    return json.dumps(content, indent=2, default=str) + "\n"


@contextlib.contextmanager
def replace_directory(folder: Path) -> Iterator[Path]:
    """A draft folder that takes the place of `folder` when the block ends, and is removed when it fails.

    Every file is on disk before the swap. A kill between the two renames of a swap leaves the old content beside it,
    under a hidden name; drafts of killed processes are removed by the next one.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}."
    for left in folder.parent.glob(f"{prefix}*.draft"):
        if not _is_running(left.name.removeprefix(prefix).partition("-")[0]):
            shutil.rmtree(left, ignore_errors=True)
    draft = folder.with_name(f"{prefix}{os.getpid()}-{uuid.uuid4().hex[:8]}.draft")
    draft.mkdir()
    try:
        yield draft
        for path in (*draft.rglob("*"), draft):
            flush(path)
        if folder.exists():
            old = draft.with_suffix(".old")
            folder.rename(old)
            draft.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            draft.rename(folder)
        flush(folder.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def append(path: Path, line: str) -> None:
    """Add a line to a file; it is on disk when the call returns. A kill may leave half a last line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def flush(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_running(pid: str) -> bool:
    return pid.isdecimal() and Path(f"/proc/{pid}").exists()
