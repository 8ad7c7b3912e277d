"""The files that stored tracks were encoded from, so that a file that changes under the same id is noticed."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from affectgrid.data.catalog import Track
from affectgrid.data.features.store import FeatureStore
from affectgrid.media.sampling import Source
from affectgrid.storage import Staged, staged

_FILE = "sources.jsonl"


@dataclasses.dataclass(frozen=True)
class SourceRecord:
    """One track's files when they were last read.

    Args:
        signature: sizes and dates, which are cheap to compare.
        source: their content; its digest decides.
    """

    signature: str
    source: Source


def signature(track: Track, *, labels: bool = False) -> str:
    """Size and date of the video, and the date of the crops' folder; no content is read. If equal, they are unchanged.

    With `labels` the annotation's too, where it decides which frames are encoded.
    """
    files = f"video {_look(track.video)} crops {_look(track.crops)}"
    if not labels:
        return files
    own = track.labels
    looks = " ".join(_look(path) for path in own.paths) if own else _look(None)
    return f"{files} labels {looks}{own.choice.decode() if own else ''}"


def with_labels(source: Source, track: Track) -> Source:
    """A source whose digest changes with the track's annotation, and how it is read, too."""
    own = track.labels
    if own is None:
        return source
    try:
        digest = hashlib.sha256(source.digest.encode() + own.state()).hexdigest()
    except OSError:
        return source
    return dataclasses.replace(source, digest=digest)


def content_digest(track: Track) -> str:
    """sha256 over the video's bytes, the crops' names and sizes, and the annotation, for files that no probe reads."""
    digest, own = hashlib.sha256(), track.labels
    with contextlib.ExitStack() as stack:
        video, crops = (path and stack.enter_context(staged(path)) for path in (track.video, track.crops))
        for path in sorted(crops.iterdir()) if crops and crops.is_dir() else []:
            digest.update(f"{path.name}:{path.stat().st_size};".encode())
        if video and video.is_file():
            with video.open("rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
    if own:
        with contextlib.suppress(OSError):
            digest.update(own.state())
    return digest.hexdigest()


def load_sources(store: FeatureStore, stream: str, fingerprint: str) -> dict[str, SourceRecord]:
    """The records of one stream, by track. Records of another version are ignored, and made again."""
    found = {}
    for row in store.read_records(stream, fingerprint, _FILE):
        try:
            found[str(row["track"])] = SourceRecord(str(row["signature"]), Source(**row["source"]))
        except (KeyError, TypeError):
            continue
    return found


def save_sources(store: FeatureStore, stream: str, fingerprint: str, records: Mapping[str, SourceRecord]) -> None:
    """Replace the records of one stream. Raises StoreError."""
    rows: list[dict[str, Any]] = [
        {"track": track, **dataclasses.asdict(record)} for track, record in sorted(records.items())
    ]
    store.write_records(rows, stream, fingerprint, _FILE)


def _look(path: Path | None) -> str:
    if path is None:
        return "none"
    if listed := Staged.parse(path):
        return listed.version
    try:
        status = path.stat()
    except OSError:
        return "missing"
    size = 0 if path.is_dir() else status.st_size  # a folder's size depends on the file system
    return f"{size}:{status.st_mtime_ns}"
