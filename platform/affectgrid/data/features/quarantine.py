"""Tracks that could not be encoded: kept in the store with the reasons, and skipped until their files change."""

from __future__ import annotations

import dataclasses
import datetime

from affectgrid.data.catalog import Track
from affectgrid.data.features.sources import content_digest, signature
from affectgrid.data.features.store import FeatureStore

_FILE = "quarantine.jsonl"
WHOLE = "all"  # the stream of a track whose files cannot even be probed


@dataclasses.dataclass(frozen=True)
class Entry:
    """One failure.

    Args:
        track: its id.
        stream: visual, audio, or ``all``.
        fingerprint: of the stream, empty for ``all``: other settings may succeed where these failed.
        reason: the last error.
        signature, source_sha256: of the files that failed.
        time: ISO 8601, UTC.
    """

    track: str
    stream: str
    fingerprint: str
    reason: str
    signature: str
    source_sha256: str
    time: str


class Quarantine:
    """The table ``quarantine.jsonl`` at the root of a store. Changes wait in memory for ``save``."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        names = [field.name for field in dataclasses.fields(Entry)]
        rows = [Entry(**{name: str(row.get(name, "")) for name in names}) for row in store.read_records(_FILE)]
        self._entries = {(entry.track, entry.stream, entry.fingerprint): entry for entry in rows}
        self._saved = dict(self._entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """By track, then stream."""
        return tuple(entry for _, entry in sorted(self._entries.items()))

    def holds(self, track: Track, stream: str, fingerprint: str) -> Entry | None:
        """Why a stream of a track is not tried; None when it is not listed, or its files have changed."""
        for key in ((track.id, WHOLE, ""), (track.id, stream, fingerprint)):
            entry = self._entries.get(key)
            if entry and self._unchanged(entry, track):
                return entry
        return None

    def add(self, track: Track, stream: str, fingerprint: str, reason: str) -> None:
        """Record a failure; it replaces an older one."""
        fingerprint = "" if stream == WHOLE else fingerprint
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        facts = (signature(track, labels=True), content_digest(track), now)
        self._entries[track.id, stream, fingerprint] = Entry(track.id, stream, fingerprint, reason, *facts)

    def release(self, track: str, stream: str, fingerprint: str = "") -> None:
        """Forget a failure, if there is one."""
        self._entries.pop((track, stream, fingerprint), None)

    def save(self) -> None:
        """Write the table if it has changed. Raises StoreError."""
        if self._entries != self._saved:
            self._store.write_records([dataclasses.asdict(entry) for entry in self.entries], _FILE)
            self._saved = dict(self._entries)

    def _unchanged(self, entry: Entry, track: Track) -> bool:
        now = signature(track, labels=True)
        if now == entry.signature:
            return True
        if content_digest(track) != entry.source_sha256:
            return False
        # Copied or touched: recorded, so that it is not read again the next time.
        key = (entry.track, entry.stream, entry.fingerprint)
        self._entries[key] = dataclasses.replace(entry, signature=now)
        return True
