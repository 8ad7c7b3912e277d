"""The plan and the report of an encode run, and a plan on paper, for a person."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console

from affectgrid.analysis.capacity.planning import CapacityPlan, Planned
from affectgrid.analysis.capacity.simulation.encoding import Simulated
from affectgrid.analysis.capacity.stage import bottleneck
from affectgrid.data.features.report import Amount, Cost, EncodePlan, EncodeReport, Quarantined, StreamPlan
from affectgrid.data.features.store import FeatureStore
from affectgrid.reporting.tables import Table


def print_plan(plan: EncodePlan, *, hop_s: float | None = None, console: Console | None = None) -> None:
    """Print how much is done, to do and in quarantine; how large it gets, and how long it takes.

    With `hop_s`, seconds between two windows of sound, also the command that plans the same for other machines.
    """
    console = console or Console()
    console.print(Table.of("Plan", _plan_rows(plan.streams)).rich())
    for line in _plan_lines(plan):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    there = next((stream.there for stream in plan.streams if stream.stream == "audio"), Amount())
    if hop_s and there.units:
        minutes = there.units * hop_s / 60
        line = f"python jobs/plan.py --hours {minutes / 60:.3g} --track-minutes {minutes / there.tracks:.3g}"
        console.print(f"on other machines: {line}", highlight=False, markup=False, soft_wrap=True)


def _plan_rows(streams: Sequence[StreamPlan]) -> list[dict[str, str]]:
    """One column per stream: a terminal is narrow."""
    cells = {
        "there": [_amount(plan.there, plan.stream) for plan in streams],
        "done": [_amount(plan.done, plan.stream) for plan in streams],
        "to do": [_amount(plan.todo, plan.stream) for plan in streams],
        "in quarantine": [f"{plan.held:,} tracks" for plan in streams],
        "size on disk": [size(plan.todo_bytes) for plan in streams],
    }
    return [
        {"": name} | {plan.stream: text for plan, text in zip(streams, texts, strict=True)}
        for name, texts in cells.items()
    ]


def _amount(amount: Amount, stream: str) -> str:
    return f"{amount.tracks:,} tracks, {amount.units:,} {'frames' if stream == 'visual' else 'hops'}"


def _plan_lines(plan: EncodePlan) -> Iterator[str]:
    if plan.changed:
        yield f"{plan.changed} streams of tracks whose files have changed are encoded again"
    if not any(stream.todo.tracks for stream in plan.streams):
        yield "nothing to do"
    elif plan.seconds is not None:
        gpus = f" and {plan.gpus:g} GPUs" if plan.gpus else ""
        yield f"expected time: {duration(plan.seconds)} on {plan.cpus} cores{gpus}, by a measurement of a few frames"
        yield from _reasons(plan)


def _reasons(plan: EncodePlan) -> Iterator[str]:
    """What the expected time consists of, and what would move it."""
    if not plan.resources:
        return
    for stream, cost in plan.costs.items():
        yield "  " + _unit_cost(stream, cost)
    parts = [f"{name} {duration(seconds)}" for name, seconds in plan.resources.items() if seconds]
    more = [f"{name} {duration(seconds)}" for name, seconds in plan.waits.items() if seconds >= 1]
    yield f"  each alone: {', '.join(parts)}; the longest decides" + (f"; on top: {', '.join(more)}" if more else "")
    limit = bottleneck(plan.resources, plan.waits)
    yield f"  limited by: {limit}. What would move it: {MOVES[limit]}"


def _unit_cost(stream: str, cost: Cost) -> str:
    unit = "a frame" if stream == "visual" else "a window of sound"
    return f"{unit}: {1000 * cost.decode_s:.2f} ms to decode, {1000 * cost.encode_s:.2f} ms to encode"


def print_encode_report(report: EncodeReport, store: FeatureStore, *, console: Console | None = None) -> None:
    """Print where the features are, what was done, and what failed, with reasons."""
    console = console or Console()
    for stream, fingerprint in report.fingerprints.items():
        line = f"{stream:<7} {report.models[stream]:<24} {store.folder(stream, fingerprint)}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    rate = f", {report.frames / report.seconds:,.0f} frames and hops/s" if report.frames else ""
    console.print(
        f"{report.tracks} tracks: {report.encoded} streams encoded, {report.skipped} there already, "
        f"{len(report.quarantined)} in quarantine; {report.seconds:.1f} s{rate}",
        highlight=False,
    )
    for stream, cost in report.costs.items():
        console.print(_unit_cost(stream, cost), highlight=False)
    print_quarantine(report.quarantined, console=console)


def print_quarantine(lost: Sequence[Quarantined], *, console: Console | None = None) -> None:
    """Print what could not be encoded, with reasons and a hint."""
    if not lost:
        return
    rows = [{"track": item.track, "stream": item.stream, "reason": item.reason} for item in lost]
    note = "tried again when their files change, or with --retry-quarantined; the others are stored"
    (console or Console()).print(Table.of("In quarantine", rows, note=note).rich())


def print_capacity(plan: CapacityPlan, *, console: Console | None = None) -> None:
    """Print machines, times, storage and costs of a plan, what limits each stage and what would move it."""
    console = console or Console()
    for line in _asked_lines(plan):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    stages = {"encode": plan.encode} | ({"search": plan.search} if plan.search else {})
    console.print(Table.of("Time and money", _stage_rows(stages)).rich())
    rows = [{"stored": name, "size": size(int(count))} for name, count in plan.storage_bytes.items()]
    console.print(Table.of("Storage", rows).rich())
    for line in _advice(plan, stages):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_courses(plan: CapacityPlan, courses: Mapping[str, Sequence[Simulated]]) -> None:
    """Print what a simulation made of a plan's stages, beside what the formulas say."""
    for name, course in courses.items():
        planned = plan.encode if name == "encode" else plan.search
        assert planned is not None
        hours = sorted(one.wall_s / 3600 for one in course)
        mean, losses = sum(hours) / len(hours), sum(one.losses for one in course) / len(course)
        said = f"{name}, simulated {len(hours)} times: {mean:.2f} h ({hours[0]:.2f} to {hours[-1]:.2f}), "
        said += f"{losses:.1f} machines lost; planned {planned.spot.wall_s / 3600:.2f} h, "
        Console().print(f"{said}ratio {planned.spot.wall_s / 3600 / mean:.3f}", highlight=False, soft_wrap=True)


def _asked_lines(plan: CapacityPlan) -> Iterator[str]:
    options, units = plan.options, {stream.name: stream.units for stream in plan.work.streams}
    yield (
        f"{options.hours:,g} hours in {plan.work.tracks:,} videos: {units['visual']:,} frames and {units['audio']:,} "
        f"windows of sound, in {plan.work.chunks:,} chunks"
    )
    yield f"{plan.fleet.nodes:,} machines: {plan.fleet}" + (f", in {options.runs} runs" if options.runs > 1 else "")
    for stream, times in plan.times.items():
        unit = "a frame" if stream == "visual" else "a window"
        yield (
            f"{unit}: {1000 * times.cost.decode_s:.2f} ms to decode ({times.decode_source}), "
            f"{1000 * times.cost.encode_s:.2f} ms to encode ({times.encode_source})"
        )


def _stage_rows(stages: Mapping[str, Planned]) -> list[dict[str, str]]:
    """A row for each time, a column for each stage."""
    cells: dict[str, dict[str, str]] = {}

    def add(row: str, stage: str, text: str) -> None:
        cells.setdefault(row, {})[stage] = text

    for name, planned in stages.items():
        add("machines", name, str(planned.spot.fleet) + (f", {planned.runs} times" if planned.runs > 1 else ""))
        add("time on spot machines", name, duration(planned.spot.wall_s))
        add("time on machines that stay", name, duration(planned.on_demand.wall_s))
        add("limited by", name, planned.spot.bottleneck)
    for name, planned in stages.items():
        for resource, seconds in planned.spot.resources.items():
            add(f"{resource} alone", name, duration(seconds))
    for name, planned in stages.items():
        for wait, seconds in planned.spot.waits.items():
            add(wait, name, "+ " + duration(seconds))
    for name, planned in stages.items():
        add(
            "cost, USD", name, f"{planned.usd[0]:,.0f} to {planned.usd[1]:,.0f}" if planned.usd else "no price is known"
        )
    return [{"": row} | {stage: texts.get(stage, "") for stage in stages} for row, texts in cells.items()]


def _advice(plan: CapacityPlan, stages: Mapping[str, Planned]) -> Iterator[str]:
    total_s = sum(planned.spot.wall_s for planned in stages.values())
    usd = plan.usd
    yield (
        f"in all {duration(total_s)}"
        + (f", {usd[0]:,.0f} to {usd[1]:,.0f} USD" if usd else "")
        + f"; what is stored, without the videos, costs {plan.usd_per_month:,.2f} USD a month in a bucket"
    )
    for name, planned in stages.items():
        limit = planned.spot.bottleneck
        yield f"{name} is limited by: {limit}. What would move it: {MOVES[limit]}"
    if plan.enough.nodes < plan.fleet.nodes:
        yield f"nearly as fast with {plan.enough.nodes:,} machines: {plan.enough}"
    if plan.driver_bytes > _DRIVER_MEMORY:
        yield (
            f"one run's list of chunks takes {size(int(plan.driver_bytes))} of its driver's memory at least: "
            "divide the tracks among more runs (--runs here, --tracks for encode)"
        )
    disks = [machine.disk_bytes for machine, _ in plan.search.spot.fleet.groups] if plan.search else []
    if disks and plan.node_bytes > _DISK_SHARE * min(disks):
        yield (
            f"each machine of the search maps {size(int(plan.node_bytes))} of features, and has a disk of "
            f"{size(int(min(disks)))}: give it a larger one, or label fewer hours (--labelled-hours)"
        )


_DRIVER_MEMORY, _DISK_SHARE = 8e9, 0.8
MOVES = {
    "cores": "more cores; without a GPU also a smaller encoder, fewer frames (--visual.frame-rate-hz) or a GPU",
    "encoders": "more cores for encoders (--encoders), or a GPU",
    "GPUs": "more or faster GPUs, a smaller encoder, half precision, or fewer frames (--visual.frame-rate-hz)",
    "network": "face crops instead of whole videos, longer chunks, or more runs with tracks of their own",
    "driver": "longer chunks (--chunk-frames, --chunk-hops), or more runs side by side, each with tracks of its own",
    "slots": "more machines, fewer epochs, a pruner, or fewer trials",
    "one trial": "fewer epochs, fewer labelled hours or a smaller model; more machines do not help",
    "start": "one long run instead of many short ones",
    "machines coming": "a higher upscaling_speed or min_workers in cluster.yaml, an image with the project installed",
    "machines lost": "machines on demand for the encoders, shorter chunks, or more runs, which a loss does not reach",
    "last chunks": "shorter chunks (--chunk-frames, --chunk-hops)",
    "last trials": "more trials than slots at a time, or a pruner",
}


def size(count: int) -> str:
    """Bytes with a unit that leaves at most four digits."""
    value, units = float(count), iter(("bytes", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    with contextlib.suppress(StopIteration):
        while value >= 1000:
            unit, value = next(units), value / 1024
    return f"{value:.0f} {unit}" if unit == "bytes" or value >= 10 else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Seconds, minutes, hours or days, to two digits or so."""
    if math.isinf(seconds):
        return "never"
    if seconds < 1:
        return "less than a second"
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
