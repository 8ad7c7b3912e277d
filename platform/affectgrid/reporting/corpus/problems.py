"""A data set's check: a table on the terminal, JSON files, and a page that shows what is in it."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from affectgrid import storage
from affectgrid.data.catalog import Catalog
from affectgrid.data.survey import TrackFacts, data_card
from affectgrid.errors import Problem
from affectgrid.reporting import html
from affectgrid.reporting.corpus.pictures import draw_corpus
from affectgrid.reporting.corpus.thumbnails import draw_thumbnails, problems_html
from affectgrid.reporting.tables import Table


def _from(problem: Problem, root: str) -> Problem:
    """The same, with paths relative to the data set."""
    where = "." if problem.where == root else problem.where.replace(f"{root}/", "")
    found, hint = (text.replace(f"{root}/", "") for text in (problem.found, problem.hint))
    return dataclasses.replace(problem, where=where, found=found, hint=hint)


def _facts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [("data set", card["root"]), ("fingerprint", card["fingerprint"])]


def card_table(card: Mapping[str, Any]) -> Table:
    """A row per split: how much there is of what."""
    rows = []
    for name, own in card["splits"].items():
        labelled = own["labels"] - own["masked"]
        rates = "-".join(dict.fromkeys(f"{rate:.3g}" for rate in own["rate_hz"]))
        rows.append({
            "split": name,
            "tracks": f"{own['tracks']}",
            "videos": f"{own['raw_videos']}",
            "hours": f"{own['hours']:.2f}",
            "frames": f"{own['frames']:,}",
            "labelled": f"{labelled:,}",
            "masked": f"{own['masked']:,}",
            "crops": f"{own['crops']:,}",
            "frames/s": rates,
        })  # fmt: skip
    return Table.of("By split", rows)


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


def write_problems(problems: Sequence[Problem], catalog: Catalog, facts: Sequence[TrackFacts], folder: Path) -> None:
    """``doctor.html``, ``problems.json``, ``data_card.json``, and for each split ``tracks/<split>.txt``.

    The last are lists as ``--tracks`` takes them.
    """
    content = [dataclasses.asdict(problem) for problem in problems]
    card = data_card(catalog, facts)
    storage.write_json(folder / "problems.json", content)
    storage.write_json(folder / "data_card.json", card)
    inside = [_from(problem, str(catalog.root)) for problem in problems]
    told = [problems_html(inside, draw_thumbnails(problems, catalog.tracks))] if problems else []
    section = html.Section(verdict(problems, len(catalog.tracks)), facts=_facts(card), embedded=told)
    with tempfile.TemporaryDirectory() as drawn:
        pictures = draw_corpus(facts, Path(drawn))
        sections = [section, html.Section("What is there", (), [card_table(card)]), *pictures]
        html.write(folder / "doctor.html", "Data set check", sections)
    for split in sorted({track.split for track in catalog.tracks}):
        names = [track.id for track in catalog.split(split)]
        storage.write_atomic(folder / "tracks" / f"{split}.txt", "\n".join([*names, ""]))
