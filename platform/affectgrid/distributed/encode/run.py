"""Encode a catalog into the feature store on Ray Data: chunks stream through decoding tasks and a pool of encoders."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, ExecutionOptions, ExecutionResources, TaskPoolStrategy

from affectgrid.data.catalog import Catalog, Track
from affectgrid.data.features.plan import (
    Chunk,
    EncodePlan,
    StreamPlan,
    cut_chunks,
    expected_seconds,
    num_hops,
    tally,
    worth_calibrating,
)
from affectgrid.data.features.quarantine import WHOLE, Quarantine
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import describe, fingerprint
from affectgrid.distributed import cluster
from affectgrid.distributed.encode.calibration import calibrate
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.decoding import StreamJob, decode
from affectgrid.distributed.encode.encoding import EncodeChunks, WholeChunks
from affectgrid.distributed.encode.inventory import Survey, last_line, survey, text
from affectgrid.distributed.encode.loading import settle_encoders
from affectgrid.distributed.encode.sandbox import Limits
from affectgrid.errors import AffectGridError, MediaError, ModelError, Problem
from affectgrid.reporting.progress import bar

log = logging.getLogger(__name__)

_IN_FLIGHT = 2  # chunks that an encoder is given: one to work on, one in hand


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
        quarantined: what failed, in this run or in an earlier one whose files have not changed since.
    """

    fingerprints: dict[str, str]
    models: dict[str, str]
    tracks: int
    skipped: int
    encoded: int
    frames: int
    seconds: float
    quarantined: tuple[Quarantined, ...]


def encode(
    catalog: Catalog,
    store_root: Path | str,
    config: EncodeConfig,
    *,
    show_plan: Callable[[EncodePlan], None] | None = None,
) -> EncodeReport:
    """Encode what the store lacks. Needs a Ray connection (`cluster.connect`).

    A finished track has one file per stream; a killed run leaves finished chunks as parts, and the next run goes on
    from them. A track whose files have changed is encoded again; one in quarantine is not, until they do. `show_plan`
    is called before the work. Raises StoreError when the store cannot be written, MediaError with
    ``on_error="stop"``, ModelError when an encoder cannot be loaded or encoders keep dying.
    """
    started = time.monotonic()
    store = FeatureStore(store_root)
    store.require_writable()
    run = _Run(catalog, store, config)
    run.prepare()
    if show_plan and run.todo:
        show_plan(run.plan(calibrated=worth_calibrating(run.units)))
    encoded, frames = run.execute()
    return EncodeReport(
        fingerprints=run.fingerprints,
        models={kind: job.stream.model for kind, job in run.jobs.items()},
        tracks=len(catalog.tracks),
        skipped=len(run.survey.done),
        encoded=encoded,
        frames=frames,
        seconds=time.monotonic() - started,
        quarantined=tuple(run.failures.found.values()),
    )


def plan_encode(
    catalog: Catalog, store_root: Path | str, config: EncodeConfig, *, calibrated: bool = True
) -> tuple[EncodePlan, list[Quarantined]]:
    """What `encode` would do, and what it would leave out; the store is only read. Needs a Ray connection.

    The time is left out without `calibrated`: measuring it takes some seconds.
    """
    run = _Run(catalog, FeatureStore(store_root), config.model_copy(update={"on_error": "skip"}), dry=True)
    run.prepare()
    return run.plan(calibrated=calibrated), list(run.failures.found.values())


def stream_jobs(
    config: EncodeConfig, tracks: Sequence[Track], limits: Limits, store: FeatureStore
) -> tuple[dict[str, StreamJob], dict[str, int], dict[str, dict[str, object]]]:
    """By stream: the job with its fingerprint, the length of a feature, and what the fingerprint hashes."""
    visual, audio = settle_encoders(config.visual, config.audio, tracks, limits, store)
    seen = config.visual.model_copy(update={"precision": visual.precision})
    heard = config.audio.model_copy(update={"precision": audio.precision})
    jobs = {
        "visual": StreamJob(seen, fingerprint(seen, visual.digest), visual.preprocess),
        "audio": StreamJob(heard, fingerprint(heard, audio.digest), None),
    }
    digests = {"visual": visual.digest, "audio": audio.digest}
    specs = {kind: describe(job.stream, digests[kind]) for kind, job in jobs.items()}
    return jobs, {"visual": visual.dim, "audio": audio.dim}, specs


def make_encoder(store: str, *, jobs: dict[str, StreamJob], options: dict[str, Any]) -> EncodeChunks:
    """An encoder as the pool's actors are, writing to another store."""
    return EncodeChunks(store, jobs, **options)


class _Failures:
    """Tracks that cannot be encoded: one reason each, kept in the store's quarantine unless the run is dry."""

    def __init__(
        self, config: EncodeConfig, quarantine: Quarantine, fingerprints: dict[str, str], *, dry: bool
    ) -> None:
        self._config, self._quarantine, self._fingerprints, self._dry = config, quarantine, fingerprints, dry
        self.found: dict[tuple[str, str], Quarantined] = {}

    def add(self, track: Track, stream: str, reason: str) -> None:
        """A failure in this run. Raises MediaError (ENC-STOP) where the run is to stop at failures."""
        if (track.id, stream) in self.found:
            return
        if not self._dry:
            self._quarantine.add(track, stream, self._fingerprints.get(stream, ""), reason)
            self._quarantine.save()
        log.warning("%s (%s) cannot be encoded: %s", track.id, stream, reason)
        self._note(track.id, stream, reason, "mend it, or use --on-error skip")

    def recall(self, held: dict[tuple[str, str], str]) -> None:
        """Failures of earlier runs, which this one does not try. Raises MediaError (ENC-STOP) as `add` does."""
        for (track, stream), reason in held.items():
            self._note(track, stream, reason, "mend it, use --retry-quarantined, or --on-error skip")

    def _note(self, track: str, stream: str, reason: str, hint: str) -> None:
        self.found[track, stream] = Quarantined(track, stream, reason)
        if self._config.on_error == "stop":
            raise MediaError(Problem("ENC-STOP", where=track, found=reason, expected="a readable track", hint=hint))


class _Run:
    """One pass over what is missing."""

    def __init__(self, catalog: Catalog, store: FeatureStore, config: EncodeConfig, *, dry: bool = False) -> None:
        self._catalog, self._store, self._config = catalog, store, config
        self._limits = config.limits
        self.jobs, self._dims, self._specs = stream_jobs(config, catalog.tracks, self._limits, store)
        self.fingerprints = {kind: job.fingerprint for kind, job in self.jobs.items()}
        self._quarantine = Quarantine(store)
        self.failures = _Failures(config, self._quarantine, self.fingerprints, dry=dry)
        self.survey = Survey()
        self._tracks = {track.id: track for track in catalog.tracks}
        self._missing: dict[tuple[str, str], set[int]] = defaultdict(set)
        self._counts: dict[tuple[str, str], int] = {}
        self._chunks: list[Chunk] = []

    @property
    def todo(self) -> list[Chunk]:
        """The chunks that no part holds."""
        return [chunk for chunk in self._chunks if chunk.number in self._missing[chunk.track, chunk.stream]]

    @property
    def units(self) -> dict[str, int]:
        """Frames and hops to do, by stream."""
        return {kind: sum(chunk.size for chunk in self.todo if chunk.stream == kind) for kind in self.jobs}

    def prepare(self) -> None:
        """Look at the files and the store, and cut what is missing into chunks."""
        self.survey = survey(
            self._catalog,
            self._store,
            self.fingerprints,
            self._quarantine,
            self._limits,
            by_labels={"visual"} if self._config.visual.frames == "labelled" else set(),
            retry=self._config.retry_quarantined,
            failed=self.failures.add,
        )
        self.failures.recall(self.survey.held)
        self._chunks = [chunk for track, kind in self.survey.todo for chunk in self._cut(track, kind)]

    def plan(self, *, calibrated: bool) -> EncodePlan:
        """What there is to do, and with `calibrated` how long it takes."""
        gpus, todo, seconds = cluster.num_gpus(), self.todo, None
        if calibrated and todo:
            encoder = functools.partial(make_encoder, jobs=self.jobs, options=self._encoder_options)
            costs = calibrate(todo, self.jobs, self._limits, encoder, num_gpus=gpus)
            if costs:
                cpus, encoders = cluster.num_cpus(), self._num_encoders(todo)
                seconds = expected_seconds(self.units, costs, cpus=cpus, encoders=encoders, gpus=gpus)
        streams = tuple(self._tally(kind) for kind in ("visual", "audio"))
        return EncodePlan(streams, len(self.survey.stale), seconds, cluster.num_cpus(), gpus)

    def execute(self) -> tuple[int, int]:
        """Encode; returns the numbers of finished (track, stream) pairs and of frames."""
        todo, finished, frames = self.todo, 0, 0
        self.survey.settle(self._store, self.fingerprints)
        for kind, job in self.jobs.items():
            self._store.write_spec(kind, job.fingerprint, self._specs[kind])
        # A kill can fall between the last part and the track's file: nothing is missing, yet it is not finished.
        for track, kind in [key for key, numbers in self._missing.items() if not numbers]:
            self._finalize(track, kind)
            finished += 1
        with bar("encode", sum(chunk.size for chunk in todo), "frames") as advance:
            for row in self._surviving(todo):
                advance(row["size"])
                frames += row["size"]
                finished += self._account(row)
        for kind, job in self.jobs.items():
            self._store.sweep(kind, job.fingerprint)
        self._release()
        return finished, frames

    def _surviving(self, todo: list[Chunk]) -> Iterator[dict[str, Any]]:
        """Every chunk's row once. When an encoder dies, the chunks that it took along are given to others.

        Ray Data could restart its actors itself, but without end, and it cannot tell an actor that was killed from one
        that its chunk kills. What is bounded here is the number of losses without a chunk between them.
        """
        seen: set[tuple[str, str, int]] = set()
        losses = 0
        while left := [chunk for chunk in todo if (chunk.track, chunk.stream, chunk.number) not in seen]:
            before = len(seen)
            try:
                for row in self._stream(left):
                    seen.add((row["track"], row["stream"], row["number"]))
                    yield row
                return
            except ray.exceptions.RayError as error:
                own = getattr(error, "cause", None)
                if isinstance(own, AffectGridError):
                    raise own from error
                losses = 1 if len(seen) > before else losses + 1
                log.warning("an encoder was lost (%s); going on with the chunks that are left", last_line(error))
                if losses >= self._config.tries:
                    where = ", ".join(sorted({chunk.track for chunk in left})[:3])
                    found, expected = f"{losses} encoders died: {last_line(error)}", "encoders that stay alive"
                    hint = "lower --batch-size, use fewer --encoders, or leave these tracks out"
                    raise ModelError(
                        Problem("ENC-LOST", where=where, found=found, expected=expected, hint=hint)
                    ) from error

    def _cut(self, track: Track, kind: str) -> list[Chunk]:
        config, total, video = self._config, self._num_units(track.id, kind), text(track.video)
        if kind == "visual":
            crops = text(track.crops) if config.visual.crop == "crops" else None
            size, person = config.chunk_frames, track.person
            keys = () if crops else self.survey.sources[track.id, kind].keyframes
            labels = text(track.annotation) if config.visual.frames == "labelled" else None
            chunks = cut_chunks(
                "visual", track.id, total, size, video=video, crops=crops, person=person, annotation=labels,
                keyframes=keys,
            )  # fmt: skip
        else:
            chunks = cut_chunks("audio", track.id, total, config.chunk_hops, video=video)
        stale = (track.id, kind) in self.survey.stale
        stored = {} if stale else self._store.parts(kind, self.fingerprints[kind], track.id)
        self._counts[track.id, kind] = len(chunks)
        # The positions are compared too: another chunk size makes other chunks of the same numbers.
        done = {chunk.number for chunk in chunks if stored.get(chunk.number) == (chunk.start, chunk.stop)}
        self._missing[track.id, kind] = {chunk.number for chunk in chunks} - done
        return chunks

    def _stream(self, chunks: list[Chunk]) -> Iterator[dict[str, Any]]:
        """Chunks through Ray Data; one small row per chunk comes back."""
        if not chunks:
            return
        num_gpus, encoders = cluster.num_gpus(), self._num_encoders(chunks)
        with _data_context(self._most_waiting_bytes(encoders)):
            items = ray.data.from_items(
                [dataclasses.asdict(chunk) for chunk in chunks], override_num_blocks=min(len(chunks), 1000)
            )
            if self._fused:
                yield from items.map(
                    WholeChunks,
                    fn_constructor_args=(str(self._store.root), self.jobs, self._limits),
                    fn_constructor_kwargs=self._encoder_options,
                    compute=ActorPoolStrategy(size=encoders),
                    num_cpus=1,
                    num_gpus=1 if num_gpus else 0,
                    ray_remote_args_fn=lambda: {"max_restarts": 0},  # see _surviving
                ).iter_rows()
                return
            decoded = items.map(
                functools.partial(decode, jobs=self.jobs, limits=self._limits),
                compute=TaskPoolStrategy(size=cluster.num_cpus()),
                num_cpus=1,
                ray_remote_args_fn=lambda: {"max_retries": self._config.tries},  # Ray Data's default is without end
            )
            yield from decoded.map_batches(
                EncodeChunks,
                fn_constructor_args=(str(self._store.root), self.jobs),
                fn_constructor_kwargs=self._encoder_options,
                batch_size=1,
                compute=ActorPoolStrategy(min_size=1, max_size=encoders, max_tasks_in_flight_per_actor=_IN_FLIGHT),
                num_cpus=1,
                num_gpus=1 if num_gpus else 0,
                ray_remote_args_fn=lambda: {"max_restarts": 0},  # see _surviving
            ).iter_rows()

    def _most_waiting_bytes(self, encoders: int) -> int:
        """Back-pressure where decoding and encoding are apart: decoded chunks that may lie in the object store.

        One that each decoder is making, and for each encoder what it works on, what it has in hand and one more.
        """
        preprocess = self.jobs["visual"].preprocess
        assert preprocess is not None
        chunk_bytes = self._config.chunk_frames * 3 * preprocess.image_size**2
        return chunk_bytes * (cluster.num_cpus() + (_IN_FLIGHT + 1) * encoders)

    @property
    def _encoder_options(self) -> dict[str, Any]:
        return {"batch_size": self._config.batch_size}

    @property
    def _fused(self) -> bool:
        return self._config.placement == "fused" or (self._config.placement == "auto" and not cluster.num_gpus())

    def _num_encoders(self, chunks: Sequence[Chunk]) -> int:
        num_gpus, cores = cluster.num_gpus(), cluster.num_cpus()
        encoders = self._config.encoders or int(num_gpus) or (cores if self._fused else max(1, cores // 2))
        return min(encoders, len(chunks))

    def _account(self, row: dict[str, Any]) -> int:
        """Note a finished chunk; 1 if it was the last one of its track and stream."""
        key = (row["track"], row["stream"])
        if row["error"]:
            self.failures.add(self._tracks[row["track"]], row["stream"], row["error"])
            return 0
        self._missing[key].discard(row["number"])
        if self._missing[key]:
            return 0
        self._finalize(*key)
        return 1

    def _finalize(self, track: str, kind: str) -> None:
        job = self.jobs[kind]
        metadata = {"source_sha256": self.survey.sources[track, kind].digest, "encoder": job.stream.model}
        self._store.finalize(kind, job.fingerprint, track, self._counts[track, kind], metadata)

    def _release(self) -> None:
        """Out of quarantine with what is stored by now."""
        for track in {track for track, _ in self.survey.sources}:
            self._quarantine.release(track, WHOLE)
        lost = {(failure.track, failure.stream) for failure in self.failures.found.values()}
        for track, kind in [*self.survey.done, *((track.id, kind) for track, kind in self.survey.todo)]:
            if (track, kind) not in lost:
                self._quarantine.release(track, kind, self.fingerprints[kind])
        self._quarantine.save()

    def _tally(self, kind: Literal["visual", "audio"]) -> StreamPlan:
        sizes: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for chunk in self._chunks:
            if chunk.stream == kind:
                sizes[chunk.track][0] += chunk.size
                sizes[chunk.track][1] += chunk.size if chunk.number in self._missing[chunk.track, kind] else 0
        done = {track: self._num_units(track, kind) for track, stream in self.survey.done if stream == kind}
        held = {track for track, stream in self.failures.found if stream in {kind, WHOLE}}
        todo = {track: (total, left) for track, (total, left) in sizes.items()}
        return tally(kind, done, todo, held, self._dims[kind])

    def _num_units(self, track: str, kind: str) -> int:
        source = self.survey.sources[track, kind]
        return source.num_frames if kind == "visual" else num_hops(source.duration_s, self._config.audio.hop_s)


@contextlib.contextmanager
def _data_context(most_waiting_bytes: int) -> Iterator[None]:
    """Back-pressure set; Ray Data's own bars and logs off: the driver shows one bar over all chunks."""
    context = DataContext.get_current()
    before = context.enable_progress_bars, context.print_on_execution_start, context.execution_options
    context.enable_progress_bars = context.print_on_execution_start = False
    limits = ExecutionResources(object_store_memory=most_waiting_bytes)
    context.execution_options = ExecutionOptions(resource_limits=limits)
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Ray 2.60 has no other way to bound a task's retries; the version is pinned below the one that drops it.
            warnings.filterwarnings("ignore", message=".*ray_remote_args_fn.*")
            yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start, context.execution_options = before
        logger.setLevel(level)
