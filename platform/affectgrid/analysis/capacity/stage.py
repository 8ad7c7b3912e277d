"""What a plan says of one stage, and how long work takes on machines that come one after another."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from affectgrid.analysis.capacity.conditions import Conditions
from affectgrid.analysis.capacity.machines import HEAD, Fleet, Machine


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage of a plan.

    Args:
        name: encode or search.
        fleet: the machines that it uses.
        wall_s: how long it takes; infinite where losses come faster than a piece of work is done.
        resources: what each resource alone would need, all machines up and none lost, in seconds.
        waits: what adds to the longest of these, in seconds: start, machines coming, machines lost, last pieces.
        machine_s: seconds that are paid, by machine; the head's among them.
        servers: processes that work at a time, all machines up.
    """

    name: str
    fleet: Fleet
    wall_s: float
    resources: Mapping[str, float]
    waits: Mapping[str, float]
    machine_s: Mapping[str, float]
    servers: int = 0

    @property
    def bottleneck(self) -> str:
        """The resource or the wait that takes most of the time."""
        return bottleneck(self.resources, self.waits)

    def usd(self, spot_share: float = 1.0) -> float | None:
        """What the machines cost, workers at a share of their list price; None where a price is not known."""
        prices = {machine.name: machine.usd_per_hour for machine, _ in self.fleet.groups}
        total = self.machine_s.get(HEAD.name, 0.0) / 3600 * (HEAD.usd_per_hour or 0.0)
        for name, price in prices.items():
            if price is None:
                return None
            total += self.machine_s[name] / 3600 * price * spot_share
        return total


NEVER_S = 100 * 365 * 86_400.0  # work that takes longer does not end


def bottleneck(resources: Mapping[str, float], waits: Mapping[str, float]) -> str:
    """The slowest resource, or a wait that takes still longer."""
    busiest = max(resources, key=lambda name: round(resources[name], 3))  # of equals the first
    parts = {busiest: resources[busiest], **waits}
    return max(parts, key=lambda name: parts[name])


Rate = Callable[[Sequence[tuple[Machine, float]]], float]  # from machines that are up to shares of the work a second


def time_with_arrivals(fleet: Fleet, conditions: Conditions, rate: Rate) -> tuple[float, list[tuple[Machine, float]]]:
    """Seconds from asking for machines to the end of the work, and the machines that are up then.

    A machine works `worker_start_s` after it is up. Infinite where the work does not end.
    """
    arrivals = sorted(
        (time_s + conditions.worker_start_s, place, count)
        for place, (_, total) in enumerate(fleet.groups)
        for time_s, count in (conditions.arrivals(total) if total else [])
    )
    up = [0.0] * len(fleet.groups)
    left, now_s = 1.0, 0.0
    for k, (time_s, place, count) in enumerate(arrivals):
        up[place] += count
        now_s, next_s = time_s, arrivals[k + 1][0] if k + 1 < len(arrivals) else math.inf
        there = [(machine, n) for (machine, _), n in zip(fleet.groups, up, strict=True)]
        if next_s == now_s:
            continue
        speed = rate(there)
        if speed * (next_s - now_s) >= left and left / speed < NEVER_S:
            return now_s + left / speed, there
        left -= speed * (next_s - now_s) if math.isfinite(next_s) else 0.0
    return math.inf, there


def paid_s(fleet: Fleet, conditions: Conditions, end_s: float, *, head: bool) -> dict[str, float]:
    """Seconds that are paid by machine, for work that ends `end_s` after machines are asked for."""
    paid = {
        machine.name: sum(
            n * max(0.0, end_s + conditions.idle_s - (up_s - conditions.boot_s))
            for up_s, n in (conditions.arrivals(count) if count else [])
            if up_s - conditions.boot_s <= end_s
        )
        for machine, count in fleet.groups
    }
    return paid | ({HEAD.name: conditions.prepare_s + end_s} if head else {})
