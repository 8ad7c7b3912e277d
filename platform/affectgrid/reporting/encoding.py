"""The plan and the report of an encode run, for a person."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from rich.console import Console

from affectgrid.data.features.report import Amount, EncodePlan, EncodeReport, Quarantined, StreamPlan
from affectgrid.data.features.store import FeatureStore
from affectgrid.reporting.tables import Table


def print_plan(plan: EncodePlan, *, console: Console | None = None) -> None:
    """Print how much is done, to do and in quarantine; how large it gets, and how long it takes."""
    console = console or Console()
    console.print(Table.of("Plan", _plan_rows(plan.streams)).rich())
    for line in _plan_lines(plan):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


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
    print_quarantine(report.quarantined, console=console)


def print_quarantine(lost: Sequence[Quarantined], *, console: Console | None = None) -> None:
    """Print what could not be encoded, with reasons and a hint."""
    if not lost:
        return
    rows = [{"track": item.track, "stream": item.stream, "reason": item.reason} for item in lost]
    note = "tried again when their files change, or with --retry-quarantined; the others are stored"
    (console or Console()).print(Table.of("In quarantine", rows, note=note).rich())


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
    if seconds < 1:
        return "less than a second"
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
