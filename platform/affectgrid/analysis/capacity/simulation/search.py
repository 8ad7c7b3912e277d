"""A search as a simulation of single trials, to check the formulas of `search`, of which it uses the lengths alone."""

from __future__ import annotations

import random
from collections import deque

from affectgrid.analysis.capacity.conditions import Conditions
from affectgrid.analysis.capacity.machines import Fleet, Machine
from affectgrid.analysis.capacity.search import SearchWork, needed_machines, slots
from affectgrid.analysis.capacity.simulation.cloud import Clock, Cloud, varied
from affectgrid.analysis.capacity.simulation.encoding import MOST_EVENTS, Simulated


class _Search:
    """The state of a search, and what each event does to it."""

    def __init__(self, work: SearchWork, fleet: Fleet, conditions: Conditions, seed: int) -> None:
        self.clock, self.losses = Clock(), 0
        self._conditions, self._first_s = conditions, conditions.worker_start_s + work.load_s
        self._gpus = fleet.gpus > 0
        chance = random.Random(seed)
        lengths, counts = [s for _, s in work.mix()], [n for n, _ in work.mix()]
        drawn = chance.choices(lengths, counts, k=work.trials)
        self._todo = deque(length_s * varied(chance, conditions.trial_spread) for length_s in drawn)
        self._unfinished = work.trials
        self._running: dict[int, dict[int, tuple[float, float]]] = {}  # by machine and slot: begun, seconds left then
        self._free: deque[tuple[int, int]] = deque()
        self.cloud = Cloud(self.clock, needed_machines(work, fleet), conditions, seed, self._join, self._lose)

    def _join(self, node: int, machine: Machine) -> None:
        self._running[node] = {}
        for slot in range(slots(machine, gpu_cluster=self._gpus)):
            self.clock.after(self._first_s, lambda place=(node, slot): self._idle(place))  # type: ignore[misc]

    def _idle(self, place: tuple[int, int]) -> None:
        if place[0] in self._running:
            self._free.append(place)
            self._hand_out()

    def _hand_out(self) -> None:
        while self._free and self._todo:
            node, slot = self._free.popleft()
            if node in self._running:
                left_s = self._todo.popleft()
                self._running[node][slot] = (self.clock.now_s, left_s)
                self.clock.after(left_s, lambda place=(node, slot): self._done(place))  # type: ignore[misc]

    def _done(self, place: tuple[int, int]) -> None:
        node, slot = place
        if node in self._running:
            del self._running[node][slot]
            self._unfinished -= 1
            if not self._unfinished:
                self.clock.stop()
            self._idle(place)

    def _lose(self, node: int, _: Machine) -> None:
        self.losses += 1
        for began_s, left_s in self._running.pop(node).values():
            done_s = self.clock.now_s - began_s
            saved_s = done_s - done_s % self._conditions.checkpoint_s if self._conditions.checkpoint_s else done_s
            self._todo.appendleft(left_s - saved_s + self._conditions.worker_start_s)
        self._hand_out()


def simulate_search(work: SearchWork, fleet: Fleet, conditions: Conditions, seed: int) -> Simulated:
    """One course of a search."""
    search = _Search(work, fleet, conditions, seed)
    assert search.clock.run(MOST_EVENTS)
    return Simulated(conditions.prepare_s + search.clock.now_s, search.cloud.paid_s(), search.losses)
