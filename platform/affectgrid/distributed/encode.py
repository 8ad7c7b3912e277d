"""Encode a catalog into the feature store on Ray Data: chunks stream through decoding tasks and a pool of encoders."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import ray
import ray.data
from pydantic import Field
from ray.data import ActorPoolStrategy, DataContext

from affectgrid.data.catalog import Catalog, Track
from affectgrid.data.plan import Chunk, cut_chunks, num_hops
from affectgrid.data.store import FeatureStore
from affectgrid.data.streams import AudioStream, VisualStream, describe, fingerprint
from affectgrid.distributed import cluster
from affectgrid.distributed.decode_stage import StreamJob, decode
from affectgrid.distributed.encode_stage import EncodeChunks, WholeChunks
from affectgrid.distributed.guarded import Limits, probe_track
from affectgrid.distributed.settle import settle_encoders
from affectgrid.errors import AffectGridError, MediaError, Problem
from affectgrid.media.chunks import Source
from affectgrid.reporting.progress import bar
from affectgrid.settings import Settings

log = logging.getLogger(__name__)


class EncodeConfig(Settings):
    """What is encoded, and how the work is spread. Only `visual` and `audio` change the numbers that are stored."""

    visual: VisualStream = VisualStream()
    audio: AudioStream = AudioStream()
    chunk_frames: int = Field(256, gt=0, description="video frames in a unit of work")
    chunk_hops: int = Field(600, gt=0, description="audio hops in a unit of work")
    batch_size: int = Field(64, gt=0, description="images, or sound windows, in one forward pass")
    placement: Literal["auto", "together", "apart"] = Field(
        "auto", description="decode and encode in one process per core, or apart; auto: apart where there are GPUs"
    )
    encoders: int | None = Field(
        None, gt=0, description="encoder processes; default: one per GPU; without GPUs one per core, apart half of them"
    )
    time_limit_s: float = Field(300, gt=0, description="longest time to decode one chunk")
    memory_limit_gb: float = Field(4, gt=0, description="most memory to decode one chunk, in GiB")
    tries: int = Field(3, gt=0, description="tries for a chunk whose decoder crashes or hangs")
    on_error: Literal["skip", "stop"] = Field("skip", description="go on without a track that fails, or stop")

    @property
    def limits(self) -> Limits:
        """The guard's limits."""
        return Limits(self.time_limit_s, int(self.memory_limit_gb * 2**30), self.tries)


@dataclasses.dataclass(frozen=True)
class Quarantined:
    """A track that could not be encoded, with the reason."""

    track: str
    stream: str
    reason: str


@dataclasses.dataclass(frozen=True)
class EncodeReport:
    """What an encode run found and did.

    Args:
        fingerprints: the folder of each stream in the store.
        models: the encoder of each stream.
        tracks: tracks in the catalog.
        skipped: pairs of track and stream that were stored already.
        encoded: pairs of track and stream that this run stored.
        frames: frames and hops that this run encoded.
        seconds: wall time.
        quarantined: what failed.
    """

    fingerprints: dict[str, str]
    models: dict[str, str]
    tracks: int
    skipped: int
    encoded: int
    frames: int
    seconds: float
    quarantined: tuple[Quarantined, ...]


def encode(catalog: Catalog, store_root: Path, config: EncodeConfig) -> EncodeReport:
    """Encode what the store lacks. Needs a Ray connection (`cluster.connect`).

    A finished track has one file per stream; a killed run leaves finished chunks as parts, and the next run goes on
    from them. Raises MediaError with ``on_error="stop"``, ModelError when an encoder cannot be loaded.
    """
    started = time.monotonic()
    store = FeatureStore(store_root)
    jobs = stream_jobs(config, store, catalog.tracks)
    todo = [
        (track, kind)
        for track in catalog.tracks
        for kind, job in jobs.items()
        if not store.has(kind, job.fingerprint, track.id)
    ]
    failures: list[Quarantined] = []
    encoded, frames = 0, 0
    if todo:
        sources = _probe_all({track for track, _ in todo}, config, failures)
        run = _Run(store, jobs, config, sources, failures)
        encoded, frames = run.execute([(track, kind) for track, kind in todo if track.id in sources])
    return EncodeReport(
        fingerprints={kind: job.fingerprint for kind, job in jobs.items()},
        models={kind: job.stream.model for kind, job in jobs.items()},
        tracks=len(catalog.tracks),
        skipped=len(catalog.tracks) * len(jobs) - len(todo),
        encoded=encoded,
        frames=frames,
        seconds=time.monotonic() - started,
        quarantined=tuple(failures),
    )


def stream_jobs(config: EncodeConfig, store: FeatureStore, tracks: Sequence[Track] = ()) -> dict[str, StreamJob]:
    """The streams with their fingerprints, each described beside its features in the store."""
    visual, audio = settle_encoders(config.visual, config.audio, tracks, config.limits)
    digests = {"visual": visual.digest, "audio": audio.digest}
    seen = config.visual.model_copy(update={"precision": visual.precision})
    heard = config.audio.model_copy(update={"precision": audio.precision})
    jobs = {
        "visual": StreamJob(seen, fingerprint(seen, visual.digest), visual.preprocess),
        "audio": StreamJob(heard, fingerprint(heard, audio.digest), None),
    }
    for kind, job in jobs.items():
        store.write_spec(kind, job.fingerprint, describe(job.stream, digests[kind]))
    return jobs


def _probe_all(tracks: set[Track], config: EncodeConfig, failures: list[Quarantined]) -> dict[str, Source]:
    """Look at every track's files, in parallel; what cannot be read goes to `failures`."""
    remote = ray.remote(num_cpus=1, max_retries=config.tries)(probe_track)
    ordered = sorted(tracks, key=lambda track: track.id)
    pending = {remote.remote(config.limits, _text(t.video), _text(t.crops)): t for t in ordered}
    sources: dict[str, Source] = {}
    with bar("probe", len(pending), "tracks") as advance:
        while pending:
            ready, _ = ray.wait(list(pending), num_returns=1)
            track = pending.pop(ready[0])
            try:
                sources[track.id] = ray.get(ready[0])
            except (MediaError, ray.exceptions.RayError) as error:
                _quarantine(failures, config, Quarantined(track.id, "all", _reason(error)))
            advance(1)
    return sources


class _Run:
    """One pass over the chunks that are missing."""

    def __init__(
        self,
        store: FeatureStore,
        jobs: dict[str, StreamJob],
        config: EncodeConfig,
        sources: dict[str, Source],
        failures: list[Quarantined],
    ) -> None:
        self._store, self._jobs, self._config = store, jobs, config
        self._sources, self._failures = sources, failures
        self._missing: dict[tuple[str, str], set[int]] = defaultdict(set)
        self._counts: dict[tuple[str, str], int] = {}

    def execute(self, work: list[tuple[Track, str]]) -> tuple[int, int]:
        """Encode; returns the numbers of finished (track, stream) pairs and of frames."""
        chunks = [chunk for track, kind in work for chunk in self._cut(track, kind)]
        todo = [chunk for chunk in chunks if chunk.number in self._missing[chunk.track, chunk.stream]]
        finished, frames = 0, 0
        # A kill can fall between the last part and the track's file: nothing is missing, yet it is not finished.
        for track, kind in [key for key, numbers in self._missing.items() if not numbers]:
            self._finalize(track, kind)
            finished += 1
        with bar("encode", sum(chunk.size for chunk in todo), "frames") as advance:
            for row in self._surviving(todo):
                advance(row["size"])
                frames += row["size"]
                finished += self._account(row)
        return finished, frames

    def _surviving(self, todo: list[Chunk]) -> Iterator[dict[str, Any]]:
        """Every chunk's row once. When an encoder dies, the chunks that it took along are given to others.

        Ray Data could restart its actors itself, but without end, and it cannot tell an actor that was killed from one
        that its chunk kills.
        """
        seen: set[tuple[str, str, int]] = set()
        for attempt in range(1, self._config.tries + 1):
            left = [chunk for chunk in todo if (chunk.track, chunk.stream, chunk.number) not in seen]
            try:
                for row in self._stream(left):
                    seen.add((row["track"], row["stream"], row["number"]))
                    yield row
                return
            except ray.exceptions.RayError as error:
                own = getattr(error, "cause", None)
                if isinstance(own, AffectGridError):
                    raise own from error
                if attempt == self._config.tries:
                    raise
                log.warning("an encoder was lost (%s); going on with the chunks that are left", _reason(error))

    def _cut(self, track: Track, kind: str) -> list[Chunk]:
        source, config = self._sources[track.id], self._config
        if kind == "visual":
            crops = _text(track.crops) if config.visual.crop == "crops" else None
            total, size = source.num_frames, config.chunk_frames
            chunks = cut_chunks(
                "visual", track.id, total, size, video=_text(track.video), crops=crops, person=track.person
            )
        else:
            total = num_hops(source.duration_s, config.audio.hop_s)
            chunks = cut_chunks("audio", track.id, total, config.chunk_hops, video=_text(track.video))
        stored = self._store.parts(kind, self._jobs[kind].fingerprint, track.id)
        self._counts[track.id, kind] = len(chunks)
        # The positions are compared too: another chunk size makes other chunks of the same numbers.
        done = {chunk.number for chunk in chunks if stored.get(chunk.number) == (chunk.start, chunk.stop)}
        self._missing[track.id, kind] = {chunk.number for chunk in chunks} - done
        return chunks

    def _stream(self, chunks: list[Chunk]) -> Iterator[dict[str, Any]]:
        """Chunks through Ray Data; one small row per chunk comes back."""
        if not chunks:
            return
        num_gpus, cores = cluster.num_gpus(), cluster.num_cpus()
        together = self._config.placement == "together" or (self._config.placement == "auto" and not num_gpus)
        encoders = self._config.encoders or (int(num_gpus) or (cores if together else max(1, cores // 2)))
        encoders = min(encoders, len(chunks))
        with _quiet_data():
            items = ray.data.from_items(
                [dataclasses.asdict(chunk) for chunk in chunks], override_num_blocks=min(len(chunks), 1000)
            )
            if together:
                yield from items.map(
                    WholeChunks,
                    fn_constructor_args=(str(self._store.root), self._jobs, self._config.limits),
                    fn_constructor_kwargs={"batch_size": self._config.batch_size},
                    compute=ActorPoolStrategy(size=encoders),
                    num_cpus=1,
                    num_gpus=1 if num_gpus else 0,
                    ray_remote_args_fn=lambda: {"max_restarts": 0},  # see _surviving
                ).iter_rows()
                return
            decoded = items.map(
                functools.partial(decode, jobs=self._jobs, limits=self._config.limits),
                num_cpus=1,
                ray_remote_args_fn=lambda: {"max_retries": self._config.tries},  # Ray Data's default is without end
            )
            yield from decoded.map_batches(
                EncodeChunks,
                fn_constructor_args=(str(self._store.root), self._jobs),
                fn_constructor_kwargs={"batch_size": self._config.batch_size},
                batch_size=1,
                compute=ActorPoolStrategy(min_size=1, max_size=encoders),
                num_cpus=1,
                num_gpus=1 if num_gpus else 0,
                ray_remote_args_fn=lambda: {"max_restarts": 0},  # see _surviving
            ).iter_rows()

    def _account(self, row: dict[str, Any]) -> int:
        """Note a finished chunk; 1 if it was the last one of its track and stream."""
        key = (row["track"], row["stream"])
        if row["error"]:
            _quarantine(self._failures, self._config, Quarantined(*key, row["error"]))
            return 0
        self._missing[key].discard(row["number"])
        if self._missing[key]:
            return 0
        self._finalize(*key)
        return 1

    def _finalize(self, track: str, kind: str) -> None:
        job = self._jobs[kind]
        metadata = {"source_sha256": self._sources[track].digest, "encoder": job.stream.model}
        self._store.finalize(kind, job.fingerprint, track, self._counts[track, kind], metadata)


def _quarantine(failures: list[Quarantined], config: EncodeConfig, failure: Quarantined) -> None:
    if any((other.track, other.stream) == (failure.track, failure.stream) for other in failures):
        return  # one reason per track is enough
    failures.append(failure)
    log.warning("%s (%s) cannot be encoded: %s", failure.track, failure.stream, failure.reason)
    if config.on_error == "stop":
        raise MediaError(
            Problem("ENC-STOP", failure.track, failure.reason, "a readable track", "mend it, or use --on-error skip")
        )


def _reason(error: Exception) -> str:
    cause = getattr(error, "cause", None)
    return str(cause or error).strip().splitlines()[-1]


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


@contextlib.contextmanager
def _quiet_data() -> Iterator[None]:
    """Ray Data's own bars and logs off: the driver shows one bar over all chunks."""
    context = DataContext.get_current()
    before = context.enable_progress_bars, context.print_on_execution_start
    context.enable_progress_bars = context.print_on_execution_start = False
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Ray 2.60 has no other way to bound a task's retries; the version is pinned below the one that drops it.
            warnings.filterwarnings("ignore", message=".*ray_remote_args_fn.*")
            yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = before
        logger.setLevel(level)
