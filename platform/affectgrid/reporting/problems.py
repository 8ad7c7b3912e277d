"""Problems of a data set: a table on the terminal, a JSON file and a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from affectgrid import storage
from affectgrid.data.catalog import Catalog
from affectgrid.errors import Problem
from affectgrid.reporting import html
from affectgrid.reporting.tables import Table


def problem_table(problems: Sequence[Problem]) -> Table:
    """A row per problem."""
    rows = [{"": p.severity, **{k: v for k, v in dataclasses.asdict(p).items() if k != "severity"}} for p in problems]
    return Table.of("Problems", rows)


def verdict(problems: Sequence[Problem], num_tracks: int) -> str:
    """One line."""
    errors = sum(problem.severity == "error" for problem in problems)
    return f"{num_tracks} tracks: {errors} errors, {len(problems) - errors} warnings"


def print_problems(
    problems: Sequence[Problem], num_tracks: int, report: str, *, console: Console | None = None
) -> None:
    """Print the table of problems, if any, the verdict, and the address of the page."""
    console = console or Console()
    if problems:  # two columns: eight would be a word wide on a terminal
        rows = [{"": problem.severity, "problem": str(problem)} for problem in problems]
        console.print(Table.of("Problems", rows).rich())
    console.print(verdict(problems, num_tracks), highlight=False)
    console.print(f"report   {report}", highlight=False, markup=False, soft_wrap=True)


def write_problems(problems: Sequence[Problem], catalog: Catalog, folder: Path) -> None:
    """``problems.json`` and ``problems.html``, and for each split ``tracks/<split>.txt``, as ``--tracks`` takes it."""
    content = [dataclasses.asdict(problem) for problem in problems]
    storage.write_json(folder / "problems.json", content)
    tables, line = [problem_table(problems)] if problems else [], verdict(problems, len(catalog.tracks))
    html.write(folder / "problems.html", "Data set check", [html.Section(line, (), tables)])
    for split in sorted({track.split for track in catalog.tracks}):
        names = [track.id for track in catalog.split(split)]
        storage.write_atomic(folder / "tracks" / f"{split}.txt", "\n".join([*names, ""]))
