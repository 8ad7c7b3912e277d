"""Run a plan's chunks through Ray Data, survive lost encoders, and write a track's file after its last chunk.

It decides neither what is encoded (`plan`) nor what becomes of a failure (`failures`). Ray Data is imported where it is
used: that takes a second or two, and a short video is encoded without it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import ray

from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.timings import Device, Timing
from affectgrid.distributed import cluster
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.decoding import StreamJob, decode
from affectgrid.distributed.encode.encoding import EncodeChunks, WholeChunks
from affectgrid.distributed.encode.inventory import Failed, last_line
from affectgrid.distributed.encode.plan import IN_FLIGHT, Chunk, Key, Placement, Plan
from affectgrid.distributed.encode.sandbox import Limits
from affectgrid.distributed.preflight import not_shared
from affectgrid.errors import AffectGridError, ConfigError, ModelError, Problem
from affectgrid.reporting.progress import bar

if TYPE_CHECKING:
    import ray.data

log = logging.getLogger(__name__)

Row = dict[str, Any]


class Executor:
    """Encodes the chunks of a plan into a store; one after another in this process where Ray is not connected."""

    def __init__(
        self,
        plan: Plan,
        jobs: dict[str, StreamJob],
        store: FeatureStore,
        config: EncodeConfig,
        limits: Limits,
        failed: Failed,
    ) -> None:
        self._plan, self._jobs, self._store = plan, jobs, store
        self._config, self._limits, self._failed = config, limits, failed
        self._missing = {key: set(track.missing) for key, track in plan.tracks.items()}
        self._seen_from: set[str] = set()  # nodes whose parts the driver can read
        self._start_s: float | None = None
        self._spent: dict[str, list[float]] = {}  # by stream: units, seconds of decoding, of encoding

    def run(self) -> tuple[int, int]:
        """Encode; returns the numbers of finished pairs of track and stream, and of frames and hops.

        Raises ModelError (ENC-LOST) when encoders keep dying, and what `failed` raises.
        """
        # A kill can come between the last part and the track's file: every chunk is there, yet the track is unfinished.
        complete = [key for key, numbers in self._missing.items() if not numbers]
        for key in complete:
            self._finalize(key)
        finished, frames, todo = len(complete), 0, self._plan.todo
        rows = self._surviving if ray.is_initialized() else self._here
        with bar("encode", sum(chunk.size for chunk in todo), "frames") as advance:
            began = time.monotonic()
            for row in rows(todo):
                self._time(row, time.monotonic() - began)
                advance(row["size"])
                frames += row["size"]
                finished += self._account(row)
        return finished, frames

    @property
    def timings(self) -> list[Timing]:
        """What `run` spent on each stream; chunks that failed do not count."""
        device: Device = "cuda" if cluster.num_gpus() else "cpu"
        timings = []
        for kind, (units, decode_s, encode_s) in self._spent.items():
            job = self._jobs[kind]
            timings.append(
                Timing(
                    kind,
                    job.stream.model,
                    device,
                    int(units),
                    decode_s,
                    encode_s,
                    self._start_s,
                    runtime=job.stream.runtime,
                    precision=job.precision,
                )
            )
        return timings

    def _time(self, row: Row, since_s: float) -> None:
        """Add up what a chunk took; the first one of all tells how long its process took to start."""
        if row["error"]:
            return
        if self._start_s is None and ray.is_initialized():
            self._start_s = max(0.0, since_s - row["decode_s"] - row["encode_s"])
        spent = self._spent.setdefault(row["stream"], [0, 0.0, 0.0])
        for place, value in enumerate((row["size"], row["decode_s"], row["encode_s"])):
            spent[place] += value

    def _here(self, todo: Sequence[Chunk]) -> Iterator[Row]:
        encoder = WholeChunks(str(self._store.root), self._jobs, self._limits, batch_size=self._config.batch_size)
        for chunk in todo:
            yield encoder(dataclasses.asdict(chunk))

    def _surviving(self, todo: Sequence[Chunk]) -> Iterator[Row]:
        """Yield every chunk's row once. When an encoder dies, the chunks that it held are given to others.

        Ray Data could restart its actors itself, but without a limit, and it cannot tell an actor that was killed from
        one that its chunk kills. The limit here is on consecutive losses without a finished chunk between them.
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
                log.warning("an encoder was lost (%s); resuming with the remaining chunks", last_line(error))
                if losses >= self._config.tries:
                    raise _lost(losses, left, error) from error

    def _stream(self, chunks: Sequence[Chunk]) -> Iterator[Row]:
        """Chunks through Ray Data; one small row per chunk comes back."""
        import ray.data

        placement = Placement.of(self._config, len(chunks), cpus=cluster.num_cpus(), gpus=cluster.num_gpus())
        rows = [dataclasses.asdict(chunk) for chunk in chunks]
        with _data_context(placement.max_waiting_chunks * self._chunk_bytes):
            items = ray.data.from_items(rows, override_num_blocks=min(len(rows), 1000))
            yield from (self._fused if placement.fused else self._split)(items, placement).iter_rows()

    def _fused(self, items: ray.data.Dataset, placement: Placement) -> ray.data.Dataset:
        from ray.data import ActorPoolStrategy

        return items.map(
            WholeChunks,
            fn_constructor_args=(str(self._store.root), self._jobs, self._limits),
            compute=ActorPoolStrategy(
                min_size=min(placement.encoders, cluster.num_cpus_now()), max_size=placement.encoders
            ),
            **self._encoder_options(placement),
        )

    def _split(self, items: ray.data.Dataset, placement: Placement) -> ray.data.Dataset:
        from ray.data import ActorPoolStrategy, TaskPoolStrategy

        decoded = items.map(
            functools.partial(decode, jobs=self._jobs, limits=self._limits),
            compute=TaskPoolStrategy(size=placement.cpus),
            num_cpus=1,
            ray_remote_args_fn=lambda: {"max_retries": self._config.tries},  # Ray Data's default is unlimited
        )
        pool = ActorPoolStrategy(min_size=1, max_size=placement.encoders, max_tasks_in_flight_per_actor=IN_FLIGHT)
        return decoded.map_batches(
            EncodeChunks,
            fn_constructor_args=(str(self._store.root), self._jobs),
            batch_size=1,
            compute=pool,
            **self._encoder_options(placement),
        )

    def _encoder_options(self, placement: Placement) -> dict[str, Any]:
        return {
            "fn_constructor_kwargs": {"batch_size": self._config.batch_size},
            "num_cpus": 1,
            "num_gpus": 1 if placement.gpus else 0,
            "ray_remote_args_fn": lambda: {"max_restarts": 0},  # see _surviving
        }

    @property
    def _chunk_bytes(self) -> int:
        """Size of a decoded chunk of pictures."""
        preprocess = self._jobs["visual"].preprocess
        assert preprocess is not None
        return self._config.chunk_frames * 3 * preprocess.image_size**2

    def _account(self, row: Row) -> int:
        """Note a finished chunk; 1 if it was the last one of its track and stream."""
        key: Key = (row["track"], row["stream"])
        if row["error"]:
            self._failed(*key, row["error"])
            return 0
        if row["node"] not in self._seen_from:  # also one that joined after the preflight
            self._require_visible(key, row)
            self._seen_from.add(row["node"])
        self._missing[key].discard(row["number"])
        if self._missing[key]:
            return 0
        self._finalize(key)
        return 1

    def _require_visible(self, key: Key, row: Row) -> None:
        """Raises ConfigError (CFG-SHARED) where a node keeps what it writes on a disk of its own."""
        track, kind = key
        if row["number"] not in self._store.parts(kind, self._jobs[kind].fingerprint, track):
            raise ConfigError(not_shared([row["node"]], self._store.address))

    def _finalize(self, key: Key) -> None:
        (track, kind), planned = key, self._plan.tracks[key]
        job = self._jobs[kind]
        metadata = {"source_sha256": planned.source_sha256, "encoder": job.stream.model}
        self._store.finalize(kind, job.fingerprint, track, len(planned.chunks), metadata)


def _lost(losses: int, left: Sequence[Chunk], error: Exception) -> ModelError:
    where = ", ".join(sorted({chunk.track for chunk in left})[:3])
    found, expected = f"{losses} encoders died: {last_line(error)}", "encoders that stay alive"
    hint = "lower --batch-size, use fewer --encoders, or leave these tracks out"
    return ModelError(Problem("ENC-LOST", where=where, found=found, expected=expected, hint=hint))


@contextlib.contextmanager
def _data_context(most_waiting_bytes: int) -> Iterator[None]:
    """Back-pressure set; Ray Data's own bars and logs off: the driver shows one bar over all chunks."""
    from ray.data import DataContext, ExecutionOptions, ExecutionResources

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
