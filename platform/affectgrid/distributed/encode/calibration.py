"""What a frame costs here: a few dozen are decoded and encoded before the run, on one thread."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import ray

from affectgrid.data.features.report import Cost
from affectgrid.distributed.encode.decoding import StreamJob, decode
from affectgrid.distributed.encode.plan import Chunk
from affectgrid.distributed.encode.sandbox import Limits

log = logging.getLogger(__name__)

UNITS = 48  # frames or hops that are measured
_CANDIDATES = 3  # tracks that are tried: the first may be damaged

MakeEncoder = Callable[[str], Callable[[dict[str, Any]], object]]  # from a store's root to an encoder of chunks


def calibrate(
    chunks: Sequence[Chunk], jobs: dict[str, StreamJob], limits: Limits, make_encoder: MakeEncoder, *, num_gpus: float
) -> dict[str, Cost]:
    """Measure each stream that `chunks` has, in a Ray task like those that do the work.

    A stream that cannot be measured is left out: a plan is no reason to fail.
    """
    streams = dict.fromkeys(chunk.stream for chunk in chunks)
    samples = {stream: _samples([chunk for chunk in chunks if chunk.stream == stream]) for stream in streams}
    remote = ray.remote(num_cpus=1, num_gpus=1 if num_gpus else 0, max_retries=0)(_measure)
    try:
        costs: dict[str, Cost] = ray.get(remote.remote(samples, jobs, limits, make_encoder))
    except ray.exceptions.RayError as error:
        log.warning("the cost of a frame could not be measured: %s", str(error).strip().splitlines()[-1])
        return {}
    return costs


def _samples(chunks: list[Chunk]) -> list[Chunk]:
    """The beginnings of a few tracks, from the middle of the list: no seek, which many frames would share."""
    firsts = [chunk for chunk in chunks if chunk.start == 0] or chunks
    middle = len(firsts) // 2
    return [
        dataclasses.replace(chunk, stop=min(chunk.stop, chunk.start + UNITS))
        for chunk in [*firsts[middle:], *firsts[:middle]][:_CANDIDATES]
    ]


def _measure(
    samples: dict[str, list[Chunk]], jobs: dict[str, StreamJob], limits: Limits, make_encoder: MakeEncoder
) -> dict[str, Cost]:
    with tempfile.TemporaryDirectory() as folder:
        encoder = make_encoder(folder)
        costs = {}
        for stream, chunks in samples.items():
            for chunk in chunks:
                cost = _cost(chunk, jobs, limits, encoder)
                if cost:
                    costs[stream] = cost
                    break
    return costs


def _cost(
    chunk: Chunk, jobs: dict[str, StreamJob], limits: Limits, encoder: Callable[[dict[str, Any]], object]
) -> Cost | None:
    """The second of two passes: the first loads libraries, weights and the file."""
    for _ in range(2):
        started = time.perf_counter()
        row = decode(dataclasses.asdict(chunk), jobs=jobs, limits=limits)
        decoded = time.perf_counter()
        if row["error"]:
            return None
        batch = {name: _column(value) for name, value in row.items()}
        loaded = time.perf_counter()
        encoder(batch)
        ended = time.perf_counter()
    return Cost((decoded - started) / chunk.size, (ended - loaded) / chunk.size)


def _column(value: Any) -> np.ndarray:
    column = np.empty(1, dtype=object)
    column[0] = value
    return column
