"""A simulated cloud: a clock with events, and machines that come in batches and are taken away at random."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

from affectgrid.analysis.capacity.conditions import Conditions
from affectgrid.analysis.capacity.machines import Fleet, Machine

Event = Callable[[], None]


class Clock:
    """Events in the order of their times."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._events: list[tuple[float, int, Event]] = []
        self._numbers = itertools.count()
        self._stopped = False

    def after(self, delay_s: float, event: Event) -> None:
        """Let `event` happen `delay_s` from now."""
        heapq.heappush(self._events, (self.now_s + delay_s, next(self._numbers), event))

    def run(self, most_events: int) -> bool:
        """Until `stop`; False where that does not come within so many events."""
        for _ in range(most_events):
            if self._stopped or not self._events:
                return self._stopped
            self.now_s, _, event = heapq.heappop(self._events)
            event()
        return self._stopped

    def stop(self) -> None:
        """No other event happens."""
        self._stopped = True


class Cloud:
    """An autoscaler that wants a fleet, and a market that takes machines away.

    Args:
        clock: what it lives by.
        fleet: wanted, of each kind.
        conditions: of the cloud.
        seed: of the losses.
        joined, lost: told of each machine: its number and kind.
    """

    def __init__(
        self,
        clock: Clock,
        fleet: Fleet,
        conditions: Conditions,
        seed: int,
        joined: Callable[[int, Machine], None],
        lost: Callable[[int, Machine], None],
    ) -> None:
        self._clock, self._conditions = clock, conditions
        self._joined, self._lost = joined, lost
        self._random = random.Random(seed)
        self._numbers = itertools.count()
        self._wanted = {machine: count for machine, count in fleet.groups if count}
        self._up = dict.fromkeys(self._wanted, 0)
        self._coming = dict.fromkeys(self._wanted, 0)
        self._asked_at: dict[int, tuple[Machine, float]] = {}
        self._paid_s = {machine.name: 0.0 for machine in self._wanted}
        for machine in self._wanted:
            self._ask(machine)

    def paid_s(self) -> dict[str, float]:
        """Seconds that are paid by machine, if the work ends now."""
        paid, until_s = dict(self._paid_s), self._clock.now_s + self._conditions.idle_s
        for machine, asked_s in self._asked_at.values():
            paid[machine.name] += until_s - asked_s
        return paid

    def _ask(self, machine: Machine) -> None:
        up, coming = self._up[machine], self._coming[machine]
        most = max(self._conditions.first_nodes, int(self._conditions.upscaling_speed * up))
        if self._conditions.boot_s == 0:
            most = self._wanted[machine]
        for _ in range(min(self._wanted[machine] - up - coming, most - coming)):
            number = next(self._numbers)
            self._asked_at[number] = (machine, self._clock.now_s)
            self._coming[machine] += 1
            self._clock.after(self._conditions.boot_s, lambda number=number: self._join(number, machine))  # type: ignore[misc]

    def _join(self, number: int, machine: Machine) -> None:
        self._coming[machine] -= 1
        self._up[machine] += 1
        self._joined(number, machine)
        self._ask(machine)
        if self._conditions.loss_per_hour:
            life_s = self._random.expovariate(self._conditions.loss_per_hour / 3600)
            self._clock.after(life_s, lambda: self._lose(number, machine))

    def _lose(self, number: int, machine: Machine) -> None:
        self._up[machine] -= 1
        self._paid_s[machine.name] += self._clock.now_s - self._asked_at.pop(number)[1]
        self._lost(number, machine)
        self._ask(machine)


def varied(chance: random.Random, spread: float) -> float:
    """A factor with mean 1 and this standard deviation."""
    return chance.gammavariate(1 / spread**2, spread**2) if spread else 1.0
