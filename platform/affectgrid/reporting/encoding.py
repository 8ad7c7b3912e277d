"""What an encode run did, for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console

from affectgrid.reporting.tables import Table


class Lost(Protocol):
    """A track that could not be encoded."""

    @property
    def track(self) -> str: ...
    @property
    def stream(self) -> str: ...
    @property
    def reason(self) -> str: ...


class EncodeFacts(Protocol):
    """What is shown; `distributed.encode.EncodeReport` has it."""

    @property
    def fingerprints(self) -> Mapping[str, str]: ...
    @property
    def models(self) -> Mapping[str, str]: ...
    @property
    def tracks(self) -> int: ...
    @property
    def skipped(self) -> int: ...
    @property
    def encoded(self) -> int: ...
    @property
    def frames(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def quarantined(self) -> Sequence[Lost]: ...


def print_encode_report(report: EncodeFacts, store: Path, *, console: Console | None = None) -> None:
    """Where the features are, what was done, and what failed with its reason."""
    console = console or Console()
    for stream, fingerprint in report.fingerprints.items():
        line = f"{stream:<7} {report.models[stream]:<24} {store / stream / fingerprint}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    rate = f", {report.frames / report.seconds:,.0f} frames and hops/s" if report.frames else ""
    console.print(
        f"{report.tracks} tracks: {report.encoded} streams encoded, {report.skipped} there already, "
        f"{len(report.quarantined)} failed; {report.seconds:.1f} s{rate}",
        highlight=False,
    )
    if report.quarantined:
        rows = [{"track": lost.track, "stream": lost.stream, "reason": lost.reason} for lost in report.quarantined]
        note = "the same command tries them again; the others are stored"
        console.print(Table.of("Not encoded", rows, note=note).rich())
