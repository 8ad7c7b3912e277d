"""Printed reports on the feature store."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from affectgrid.data.features.references import Unused
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.imports.stream import ImportReport
from affectgrid.errors import Problem
from affectgrid.reporting.encoding import size
from affectgrid.reporting.tables import Table


def print_damage(problems: Sequence[Problem], store: FeatureStore, *, removed: bool) -> None:
    """Print every damaged file, and how to repair the store."""
    console = Console()
    for problem in problems:
        console.print(str(problem), style="red", highlight=False, markup=False, soft_wrap=True)
    files = sum(len(store.tracks(stream, name)) for stream in store.streams() for name in store.fingerprints(stream))
    way_out = "; removed: the next encode makes them again" if removed else "; --delete removes them"
    verdict = f"{len(problems)} damaged{way_out}" if problems else "all whole"
    console.print(f"{store.address}: {files} tracks and streams; {verdict}", highlight=False, soft_wrap=True)


def print_unused(found: Sequence[Unused], store: FeatureStore, *, removed: bool) -> None:
    """Print every fingerprint that nothing refers to, with its size."""
    console = Console()
    if not found:
        console.print(f"{store.address}: every fingerprint is referred to", highlight=False, soft_wrap=True)
        return
    rows = [
        {
            "stream": item.stream,
            "fingerprint": item.fingerprint,
            "encoder": item.model,
            "tracks": f"{item.tracks}",
            "size": size(item.size_bytes),
        }
        for item in found
    ]
    total = size(sum(item.size_bytes for item in found))
    note = f"{total} removed" if removed else f"{total}; nothing was removed: --delete does"
    console.print(Table.of("Nothing refers to", rows, note=note).rich())


def print_import(report: ImportReport, store: FeatureStore) -> None:
    """Print what was imported, what was left out, and how a model reads it."""
    console = Console()
    for problem in report.problems:
        console.print(str(problem), style="red", highlight=False, markup=False, soft_wrap=True)
    counts = {"added": report.added, "replaced": report.replaced, "unchanged": report.unchanged}
    tracks = ", ".join(f"{len(names)} {kind}" for kind, names in counts.items() if names) or "none"
    lines = [
        f"{store.folder(report.stream, report.fingerprint)}: {report.dim} numbers by {report.clock}; tracks: {tracks}",
        f"{report.rows} rows, of which {report.absent} are absent: flagged so, or not finite",
    ]
    for told, names in (("no track of the data", report.strangers), ("without a file, and absent", report.missing)):
        if names:
            lines.append(f"{told}: {len(names)}, such as {', '.join(names[:3])}")
    lines.append(f"use it: --config.model.streams visual audio {report.stream}")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
