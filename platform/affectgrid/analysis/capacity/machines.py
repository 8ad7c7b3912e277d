"""Kinds of machines with what they hold and cost, and fleets of them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

from affectgrid.errors import ConfigError, Problem, nearest

DISK_USD_PER_HOUR = 0.015  # 100 GB of gp3 on each node, from the total in cluster.yaml
SPOT_SHARE = 1 / 3  # of the list price: the cheap end of what cluster.yaml says of spot


@dataclasses.dataclass(frozen=True)
class Machine:
    """One kind of machine.

    Args:
        name: as the cloud calls it.
        cpus, gpus: that Ray may use.
        usd_per_hour: list price on demand with its disk; None where it is not known.
        network_bytes_s: what its network carries for hours in one direction; infinite where it does not matter.
        disk_bytes: of its local disk.
    """

    name: str
    cpus: int
    gpus: int
    usd_per_hour: float | None = None
    network_bytes_s: float = math.inf
    disk_bytes: float = math.inf


_GBIT = 1e9 / 8
# Prices of us-east-1 as in cluster.yaml. The networks are the lasting half of the "up to" figures: an assumption.
MACHINES = {
    machine.name: machine
    for machine in (
        Machine("c7i.4xlarge", 16, 0, 0.71 + DISK_USD_PER_HOUR, 6.25 * _GBIT, 100e9),
        Machine("g6.2xlarge", 8, 1, 0.98 + DISK_USD_PER_HOUR, 5 * _GBIT, 100e9),
    )
}
HEAD = Machine("m7i.xlarge", 0, 0, 0.20 + DISK_USD_PER_HOUR)
_OWN = re.compile(r"(\d+)cpu(?:\+(\d+)gpu)?(?:@(\d+(?:\.\d+)?))?")


def find_machine(name: str) -> Machine:
    """A kind by its name, or one of your own: ``64cpu``, ``64cpu+4gpu``, ``64cpu+4gpu@3.2`` with USD an hour.

    Raises ConfigError (CFG-MACHINE).
    """
    if name in MACHINES:
        return MACHINES[name]
    own = _OWN.fullmatch(name)
    if own is None or int(own[1]) == 0:
        expected = f"{', '.join(MACHINES)}, or your own: 64cpu, 64cpu+4gpu, 64cpu+4gpu@3.2 (USD an hour)"
        hint = nearest(name, MACHINES)
        raise ConfigError(Problem("CFG-MACHINE", where="machines", found=repr(name), expected=expected, hint=hint))
    return Machine(name, int(own[1]), int(own[2] or 0), float(own[3]) if own[3] else None)


@dataclasses.dataclass(frozen=True)
class Fleet:
    """How many machines of each kind."""

    groups: tuple[tuple[Machine, int], ...]

    @property
    def nodes(self) -> int:
        """Machines in all."""
        return sum(count for _, count in self.groups)

    @property
    def cpus(self) -> int:
        """Cores in all."""
        return sum(machine.cpus * count for machine, count in self.groups)

    @property
    def gpus(self) -> int:
        """GPUs in all."""
        return sum(machine.gpus * count for machine, count in self.groups)

    @property
    def usd_per_hour(self) -> float | None:
        """List price of all of them; None where a price is not known."""
        prices = [(machine.usd_per_hour, count) for machine, count in self.groups]
        return None if any(usd is None for usd, _ in prices) else sum((usd or 0.0) * count for usd, count in prices)

    def times(self, runs: int) -> Fleet:
        """So many fleets like this one."""
        return Fleet(tuple((machine, count * runs) for machine, count in self.groups))

    def __str__(self) -> str:
        return " + ".join(f"{count:,} x {machine.name}" for machine, count in self.groups if count)


def divisions(machines: Sequence[Machine], nodes: int) -> Iterator[Fleet]:
    """Every way to make `nodes` of one or two kinds; of two at least one each where there is room.

    Raises ConfigError (CFG-MACHINE) for more kinds, or one kind twice.
    """
    names = [machine.name for machine in machines]
    if len(set(names)) != len(names) or not 1 <= len(names) <= 2:
        found, expected = ", ".join(names) or "none", "one kind, or two different ones"
        hint = "plan the others by themselves"
        raise ConfigError(Problem("CFG-MACHINE", where="machines", found=found, expected=expected, hint=hint))
    if len(machines) == 1:
        yield Fleet(((machines[0], nodes),))
        return
    first, second = machines
    for count in range(1, nodes) if nodes > 1 else (0, 1):
        yield Fleet(((first, count), (second, nodes - count)))
