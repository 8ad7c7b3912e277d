"""Encoding as a simulation of single chunks, to check the formulas of `encoding`, none of which it uses.

Machines join and vanish (`cloud`), processes start, chunks are taken from a list and last a random time, a lost encoder
begins the run's encoders again, as `distributed/encode/executor` does, and one driver writes every track's file.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import deque
from collections.abc import Callable

from affectgrid.analysis.capacity.conditions import Conditions
from affectgrid.analysis.capacity.encoding import Layout
from affectgrid.analysis.capacity.machines import Fleet, Machine
from affectgrid.analysis.capacity.simulation.cloud import Clock, Cloud, varied
from affectgrid.analysis.capacity.workload import StreamWork, Workload
from affectgrid.errors import ConfigError, Problem

MOST_EVENTS = 5_000_000


@dataclasses.dataclass(frozen=True)
class Simulated:
    """One course of events: how long it took, what is paid for it by machine, and how many machines were lost."""

    wall_s: float
    machine_s: dict[str, float]
    losses: int


@dataclasses.dataclass(eq=False)
class _Worker:
    """A process on a core, or on a GPU; `holds` is the chunk that it works on: stream and track."""

    node: int
    encodes: bool
    holds: tuple[int, int] | None = None
    epoch: int = 0  # changes when it is begun again: what it was doing does not end


def simulate_encoding(
    work: Workload, fleet: Fleet, conditions: Conditions, seed: int, layout: Layout | None = None
) -> Simulated:
    """One course of an encode run. Raises ConfigError (CFG-SIMULATE) where it does not end."""
    run = _Run(work, fleet, conditions, seed, layout or Layout.of(fleet))
    if not run.clock.run(MOST_EVENTS):
        raise ConfigError(
            Problem(
                "CFG-SIMULATE",
                where="simulate",
                found=f"{work.chunks:,} chunks, unfinished after {MOST_EVENTS:,} events",
                expected="a run that ends",
                hint="simulate fewer hours on fewer machines, or with fewer losses",
            )
        )
    return Simulated(conditions.prepare_s + run.clock.now_s, run.cloud.paid_s(), run.losses)


class _Run:
    """The state of a run, and what each event does to it."""

    def __init__(self, work: Workload, fleet: Fleet, conditions: Conditions, seed: int, layout: Layout) -> None:
        self.clock, self.losses = Clock(), 0
        self._work, self._conditions, self._layout = work, conditions, layout
        self._random, self._gpus = random.Random(seed), fleet.gpus > 0
        self._parts = {(s, t): n for s, stream in enumerate(work.streams) for t, n in enumerate(_per_track(stream))}
        self._left = dict(self._parts)
        self._todo = deque(
            (s, t) for s, t in sorted(self._parts, key=lambda key: key[1]) for _ in range(self._parts[s, t])
        )
        self._decoded: deque[tuple[int, int]] = deque()
        self._decoding, self._most_waiting = 0, fleet.cpus + 3 * (fleet.gpus or fleet.cpus // 2)
        self._unfinished, self._driver_free_s = work.chunks, 0.0
        self._workers: dict[int, list[_Worker]] = {}
        self._free: dict[bool, dict[_Worker, None]] = {False: {}, True: {}}  # by whether they encode
        self.cloud = Cloud(self.clock, fleet, conditions, seed, self._join, self._lose)

    # machines

    def _join(self, node: int, machine: Machine) -> None:
        encoders = machine.gpus if self._gpus else 0 if self._layout.fused else machine.cpus // 2
        for number in range(machine.cpus):
            worker = _Worker(node, encodes=number < encoders or self._layout.fused)
            self._workers.setdefault(node, []).append(worker)
            self._start(worker)

    def _start(self, worker: _Worker) -> None:
        self._stop(worker)
        self._at(self._conditions.worker_start_s, worker, lambda: self._idle(worker))

    def _stop(self, worker: _Worker) -> None:
        """It forgets what it was doing; its chunk is the next to be taken."""
        worker.epoch += 1
        self._free[worker.encodes].pop(worker, None)
        if worker.holds is not None:
            self._todo.appendleft(worker.holds)
            self._decoding -= not worker.encodes
            worker.holds = None

    def _at(self, delay_s: float, worker: _Worker, event: Callable[[], None]) -> None:
        epoch = worker.epoch
        self.clock.after(delay_s, lambda: event() if worker.epoch == epoch else None)

    def _lose(self, node: int, _: Machine) -> None:
        self.losses += 1
        gone = self._workers.pop(node)
        for worker in gone:
            self._stop(worker)
        if any(worker.encodes for worker in gone):
            self._todo.extendleft(self._decoded)
            self._decoded.clear()
            for worker in itertools.chain.from_iterable(self._workers.values()):
                self._start(worker)

    # chunks

    def _idle(self, worker: _Worker) -> None:
        self._free[worker.encodes][worker] = None
        self._hand_out()

    def _hand_out(self) -> None:
        decoders, encoders = self._free[self._layout.fused], self._free[True]
        while decoders and self._todo and (self._layout.fused or self._room):
            self._begin(decoders, self._todo.popleft())
        while not self._layout.fused and encoders and self._decoded:
            self._begin(encoders, self._decoded.popleft())

    @property
    def _room(self) -> bool:
        return self._decoding + len(self._decoded) < self._most_waiting

    def _begin(self, free: dict[_Worker, None], chunk: tuple[int, int]) -> None:
        worker = next(iter(free))
        del free[worker]
        worker.holds = chunk
        self._decoding += not worker.encodes
        stream = self._work.streams[chunk[0]]
        decodes = self._layout.fused or not worker.encodes
        mean_s = decodes * stream.decode_chunk_s + worker.encodes * stream.encode_chunk_s
        self._at(mean_s * varied(self._random, self._conditions.chunk_spread), worker, lambda: self._done(worker))

    def _done(self, worker: _Worker) -> None:
        chunk = worker.holds
        assert chunk is not None
        worker.holds = None
        if worker.encodes:
            self._note(chunk)
        else:
            self._decoding -= 1
            self._decoded.append(chunk)
        self._idle(worker)

    def _note(self, chunk: tuple[int, int]) -> None:
        """The driver takes a chunk's row, and writes the track's file after the last."""
        stream, conditions = self._work.streams[chunk[0]], self._conditions
        self._left[chunk] -= 1
        busy_s = conditions.driver_chunk_s
        if not self._left[chunk]:
            parts = self._parts[chunk]
            busy_s += parts * conditions.store_request_s + conditions.driver_track_s + 3 * conditions.store_request_s
            busy_s += stream.units / stream.tracks * stream.row_bytes / conditions.driver_bytes_s
        self._driver_free_s = max(self._driver_free_s, self.clock.now_s) + busy_s
        self._unfinished -= 1
        if not self._unfinished:
            self.clock.after(self._driver_free_s - self.clock.now_s, self.clock.stop)


def _per_track(stream: StreamWork) -> list[int]:
    """Chunks of each track."""
    each, more = divmod(stream.chunks, stream.tracks)
    return [each + (track < more) for track in range(stream.tracks)]
