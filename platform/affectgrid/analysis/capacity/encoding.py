"""How long encoding takes: every resource by itself, then the slowest, on machines that come and go."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from affectgrid.analysis.capacity.conditions import Conditions
from affectgrid.analysis.capacity.machines import Fleet, Machine
from affectgrid.analysis.capacity.queueing import grown, tail_s, total_s, with_repeats
from affectgrid.analysis.capacity.stage import Stage, paid_s, time_with_arrivals
from affectgrid.analysis.capacity.workload import Workload

Up = Sequence[tuple[Machine, float]]
CORES, ENCODERS, GPUS, NETWORK, DRIVER = "cores", "encoders", "GPUs", "network", "driver"


@dataclasses.dataclass(frozen=True)
class Layout:
    """How an encode run uses its machines.

    Args:
        fused: a process decodes and encodes; else decoding and encoding have processes of their own.
        encoders: the most processes that encode; None: one for each GPU, without GPUs one for each core.
    """

    fused: bool
    encoders: int | None = None

    @classmethod
    def of(cls, fleet: Fleet) -> Layout:
        """What `jobs/encode.py` does by itself."""
        return cls(fused=fleet.gpus == 0)


def estimate_encoding(work: Workload, fleet: Fleet, conditions: Conditions, layout: Layout | None = None) -> Stage:
    """The time of one encode run, and where it goes."""
    layout = layout or Layout.of(fleet)
    whole = [(machine, float(count)) for machine, count in fleet.groups]

    def wall_s(under: Conditions) -> tuple[float, float]:
        def rate(up: Up) -> float:
            return 1 / max(needed_s(work, up, under, layout).values())

        end_s, up = time_with_arrivals(fleet, under, rate)
        return end_s, _tail_s(work, up, under, layout) if math.isfinite(end_s) else 0.0

    resources = needed_s(work, whole, conditions.on_demand, layout)
    full_s = max(resources.values())
    quiet_s, quiet_tail_s = wall_s(conditions.on_demand)
    end_s, tail = wall_s(conditions)
    waits = {
        "start": conditions.prepare_s + conditions.worker_start_s,
        "machines coming": quiet_s - full_s - conditions.worker_start_s,
        "machines lost": end_s + tail - quiet_s - quiet_tail_s,
        "last chunks": quiet_tail_s,
    }
    paid = paid_s(fleet, conditions, end_s + tail, head=conditions.boot_s > 0)
    return Stage("encode", fleet, conditions.prepare_s + end_s + tail, resources, waits, paid)


def quick_s(work: Workload, fleet: Fleet, conditions: Conditions, layout: Layout) -> float:
    """The time without its last chunks: enough to compare fleets."""
    return time_with_arrivals(fleet, conditions, lambda up: 1 / max(needed_s(work, up, conditions, layout).values()))[0]


def needed_s(work: Workload, up: Up, conditions: Conditions, layout: Layout) -> dict[str, float]:
    """Seconds that each resource alone needs for all the work with these machines up.

    A lost encoder begins all encoders of the run again, and every chunk that was under way: a chunk then takes
    `with_repeats`, and losses leave exp(-rate * start) of the time for work.
    """
    gpus = sum(machine.gpus * n for machine, n in up)
    losses_s = conditions.loss_rate_s(_holders(up) * conditions.presence)
    here = conditions.presence
    cpus = here * sum(machine.cpus * n for machine, n in up)
    most = math.inf if layout.encoders is None else layout.encoders
    start_s = conditions.worker_start_s
    needs: dict[str, float] = {}
    if layout.fused:
        needs[CORES] = _repeated_s(work, losses_s, decode=True, encode=True) / _some(min(cpus, most))
    else:
        encoders = min(here * gpus if gpus else cpus / 2 if layout.encoders is None else cpus, most)
        needs[GPUS if gpus else ENCODERS] = _repeated_s(work, losses_s, encode=True) / _some(encoders)
        needs[CORES] = _repeated_s(work, losses_s, decode=True) / _some(cpus - encoders if cpus > encoders else cpus)
        start_s += max((stream.decode_chunk_s for stream in work.streams), default=0.0)  # encoders wait for it
    needs[NETWORK] = _network_s(work, up, split=not layout.fused)
    needs[DRIVER] = work.chunks * conditions.per_chunk_s + work.files * conditions.per_track_s
    needs[DRIVER] += work.feature_bytes / conditions.driver_bytes_s
    restarts = grown(losses_s * start_s)
    return {name: seconds * restarts for name, seconds in needs.items()}


def _some(servers: float) -> float:
    return servers or 1e-9  # machines of the kind that does it have not come yet


def _repeated_s(work: Workload, losses_s: float, *, decode: bool = False, encode: bool = False) -> float:
    """Seconds of one server for every chunk, those begun again among them."""
    return sum(
        stream.chunks * with_repeats(decode * stream.decode_chunk_s + encode * stream.encode_chunk_s, losses_s)
        for stream in work.streams
    )


def _network_s(work: Workload, up: Up, *, split: bool) -> float:
    """Seconds of the busiest network.

    Of n machines each copies a video of which it decodes one of m chunks: the share 1 - (1 - 1/n)^m of all videos.
    Decoded pictures travel to the machine with the GPU that takes them.
    """
    nodes, gpus = sum(n for _, n in up), sum(machine.gpus * n for machine, n in up)
    if nodes < 1 or not work.tracks:
        return 0.0
    staged = work.video_bytes * (1 - (1 - 1 / nodes) ** (work.chunks / work.tracks))
    moved = sum(stream.units * stream.moved_bytes for stream in work.streams) * (1 - 1 / nodes) if split else 0.0
    return float(max((staged + moved * (m.gpus / gpus if gpus else 0)) / m.network_bytes_s for m, n in up if n))


def _tail_s(work: Workload, up: Up, conditions: Conditions, layout: Layout) -> float:
    """What the last chunks add where the encoders, or the cores, are the slowest; the others hide it."""
    needs = needed_s(work, up, conditions, layout)
    slowest = max(needs, key=lambda name: needs[name])
    if slowest not in {CORES, ENCODERS, GPUS} or not needs[slowest]:
        return 0.0
    decode, encode = slowest == CORES, layout.fused or slowest != CORES
    mix = [
        (float(stream.chunks), decode * stream.decode_chunk_s + encode * stream.encode_chunk_s)
        for stream in work.streams
    ]
    quiet_s = needed_s(work, up, conditions.on_demand, layout)[slowest]
    losses_s = conditions.loss_rate_s(_holders(up) * conditions.presence)
    tail = with_repeats(tail_s(mix, total_s(mix) / quiet_s, conditions.chunk_spread), losses_s)
    return tail * grown(losses_s * conditions.worker_start_s)


def _holders(up: Up) -> float:
    """Machines with encoders."""
    gpus = any(machine.gpus and n for machine, n in up)
    return sum(n for machine, n in up if machine.gpus or not gpus)
