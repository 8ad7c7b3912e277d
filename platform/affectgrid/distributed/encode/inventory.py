"""What an encode run has to do: the catalog compared with the store, the quarantine and the files as they are now."""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import ray

from affectgrid.data.catalog import Catalog, Track
from affectgrid.data.features.quarantine import WHOLE, Quarantine
from affectgrid.data.features.sources import SourceRecord, load_sources, save_sources, signature, with_labels
from affectgrid.data.features.store import FeatureStore
from affectgrid.distributed.cluster import completed
from affectgrid.distributed.encode.plan import Key
from affectgrid.distributed.encode.sandbox import Limits, probe_track
from affectgrid.errors import MediaError, StoreError
from affectgrid.media.sampling import Source
from affectgrid.reporting.progress import bar

Failed = Callable[[str, str, str], None]  # track id, stream, reason


@dataclasses.dataclass
class Survey:
    """The state of every track and stream. Nothing in the store has been changed yet: `settle` does that.

    Args:
        done: stored, from the files as they are now.
        todo: to be encoded.
        held: in quarantine from an earlier run, with the reason.
        parts: of what is to be encoded, the finished chunks of a killed run: by number, the positions.
        stale: have features or chunks in the store that were made from other files.
        sources: what the tracks' files hold; where only labelled frames are encoded its digest counts the labels, too.
    """

    done: list[Key] = dataclasses.field(default_factory=list)
    todo: list[tuple[Track, str]] = dataclasses.field(default_factory=list)
    parts: dict[Key, dict[int, tuple[int, int]]] = dataclasses.field(default_factory=dict)
    held: dict[Key, str] = dataclasses.field(default_factory=dict)
    stale: set[Key] = dataclasses.field(default_factory=set)
    sources: dict[Key, Source] = dataclasses.field(default_factory=dict)
    records: dict[str, dict[str, SourceRecord]] = dataclasses.field(default_factory=dict)
    new_records: set[str] = dataclasses.field(default_factory=set)  # streams whose records changed

    def settle(self, store: FeatureStore, fingerprints: Mapping[str, str]) -> None:
        """Forget what is stale, and only then record the new files: a kill in between loses nothing but time."""
        for track, kind in sorted(self.stale):
            store.remove(kind, fingerprints[kind], track)
        for kind in self.new_records:
            save_sources(store, kind, fingerprints[kind], self.records[kind])


def survey(
    catalog: Catalog,
    store: FeatureStore,
    fingerprints: Mapping[str, str],
    quarantine: Quarantine,
    limits: Limits,
    *,
    by_labels: Collection[str] = (),
    retry: bool = False,
    failed: Failed,
) -> Survey:
    """Look at every track whose files are not known to be unchanged; in this process where Ray is not connected.

    Sizes and dates are compared first; where they differ the file is read, and its sha256 decides. For the streams in
    `by_labels` the annotation is one of a track's files. `failed` is told of tracks whose files cannot be looked at;
    `retry` looks at those in quarantine, too.
    """
    found = Survey()
    stored = {kind: set(store.tracks(kind, fingerprint)) for kind, fingerprint in fingerprints.items()}
    found.records = {kind: load_sources(store, kind, fingerprint) for kind, fingerprint in fingerprints.items()}
    in_parts = {kind: set(store.unfinished(kind, fingerprint)) for kind, fingerprint in fingerprints.items()}
    unsure: dict[Track, list[str]] = defaultdict(list)
    signatures = {
        (track.id, kind): signature(track, labels=kind in by_labels)
        for track in catalog.tracks
        for kind in fingerprints
    }
    for track in catalog.tracks:
        for kind, fingerprint in fingerprints.items():
            entry = None if retry else quarantine.holds(track, kind, fingerprint)
            record = found.records[kind].get(track.id)
            if entry:
                found.held[track.id, entry.stream] = entry.reason
            elif record and record.signature == signatures[track.id, kind]:
                found.sources[track.id, kind] = record.source
                _place(found, track, kind, is_stored=track.id in stored[kind])
            else:
                unsure[track].append(kind)
    for track, probed in probe_all(unsure, limits, failed).items():
        for kind in unsure[track]:
            source = with_labels(probed, track) if kind in by_labels else probed
            found.sources[track.id, kind] = source
            before = _digest_before(found, store, track, kind, fingerprints[kind], is_stored=track.id in stored[kind])
            same = before == source.digest
            if not same and (before or track.id in in_parts[kind]):
                found.stale.add((track.id, kind))
            _place(found, track, kind, is_stored=same and track.id in stored[kind])
            found.records[kind][track.id] = SourceRecord(signatures[track.id, kind], source)
            found.new_records.add(kind)
    found.todo.sort(key=lambda item: (item[0].id, item[1] != "visual"))
    for track, kind in found.todo:
        if (track.id, kind) not in found.stale:
            found.parts[track.id, kind] = store.parts(kind, fingerprints[kind], track.id)
    return found


def probe_all(tracks: Mapping[Track, object], limits: Limits, failed: Failed) -> dict[Track, Source]:
    """Look at tracks' files in guarded processes, with Ray in parallel."""
    if not tracks:
        return {}
    sources: dict[Track, Source] = {}
    with bar("probe", len(tracks), "tracks") as advance:
        for track, look in _probed(sorted(tracks, key=lambda track: track.id), limits):
            try:
                sources[track] = look()
            except (MediaError, ray.exceptions.RayError) as error:
                cause = getattr(error, "cause", None)
                if isinstance(cause, StoreError):
                    raise cause from error  # the bucket does not answer: not the track's fault
                failed(track.id, WHOLE, last_line(error))
            advance(1)
    return dict(sorted(sources.items(), key=lambda item: item[0].id))


def _probed(tracks: Sequence[Track], limits: Limits) -> Iterator[tuple[Track, Callable[[], Source]]]:
    """Each track as its turn comes, and what returns its source or raises what went wrong."""
    files = {
        track: (str(track.video) if track.video else None, str(track.crops) if track.crops else None)
        for track in tracks
    }
    if not ray.is_initialized():
        yield from ((track, functools.partial(probe_track, limits, *own)) for track, own in files.items())
        return
    remote = ray.remote(num_cpus=1, max_retries=limits.tries)(probe_track)
    for track, ready in completed({remote.remote(limits, *own): track for track, own in files.items()}):
        yield track, functools.partial(ray.get, ready)


def last_line(error: Exception) -> str:
    """An error's message without the remote traceback."""
    cause = getattr(error, "cause", None)
    return str(cause or error).strip().splitlines()[-1]


def _place(found: Survey, track: Track, kind: str, *, is_stored: bool) -> None:
    if is_stored:
        found.done.append((track.id, kind))
    else:
        found.todo.append((track, kind))


def _digest_before(
    found: Survey, store: FeatureStore, track: Track, kind: str, fingerprint: str, *, is_stored: bool
) -> str | None:
    """Digest of the files that the stored features, or the chunks of a killed run, are from."""
    if is_stored:
        return str(store.read_metadata(kind, fingerprint, track.id).get("source_sha256", ""))
    record = found.records[kind].get(track.id)
    return record.source.digest if record else None
