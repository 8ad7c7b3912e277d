"""A study on the terminal, and as one HTML page."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from affectgrid.analysis.summary import StudySummary
from affectgrid.reporting import html
from affectgrid.reporting.caveat import look_ahead
from affectgrid.reporting.scores import region_table, score_table
from affectgrid.reporting.study.confirmation import confirmation_sentences, confirmation_tables
from affectgrid.reporting.study.pictures import BestModel, SearchFigures
from affectgrid.reporting.study.recipe import Recipe, recipe_section
from affectgrid.reporting.study.tables import (
    every_trial,
    headline,
    importance_note,
    importance_rows,
    study_caveat,
    study_tables,
)
from affectgrid.reporting.tables import Table
from affectgrid.storage import Storage

_LOG_WIDTH = 140  # of a file or `ray job logs`, which have no width of their own
_OPTIMISM = "The search picked this model on the same videos, so these scores flatter it"


def print_study(
    study: StudySummary, open_command: str, link: str, root: Storage, *, console: Console | None = None
) -> None:
    """Print the headline, the tables, and where everything is under `root`; `open_command` shows the log at `link`."""
    console = console or Console()
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    console.print(f"\n{headline(study)}", style="bold", highlight=False, markup=False)
    for table in [*study_tables(study), *confirmation_tables(study.confirmation)]:
        console.print(table.rich())
    for sentence in confirmation_sentences(study.confirmation, study.choice_optimism):
        console.print(sentence, highlight=False, markup=False)
    report = root.show("studies", study.name, "report.html")
    for line in (f"report   {report}", f"files    {root.address}", f"MLflow   {open_command}", f"         {link}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def write_report(
    study: StudySummary, best: BestModel | None, search: SearchFigures | None = None, recipe: Recipe | None = None
) -> Path:
    """``report.html`` in the study's folder."""
    tables = study_tables(study, caveat=False)
    sections = [html.Section("Results", list(filter(None, [headline(study), study.description])), tables)]
    if recipe is not None:
        sections.append(recipe_section(recipe))
    if study.confirmation is not None:
        sentences, tables = (
            confirmation_sentences(study.confirmation, study.choice_optimism),
            confirmation_tables(study.confirmation),
        )
        sections.append(html.Section("Confirmation", sentences, tables))
    if best is not None:
        tables = [score_table(best.scores, _optimism(study)), region_table(best.scores)]
        sections.append(html.Section("The best model on the validation split", (), tables, best.pictures))
    if search is not None:
        sections += _search_section(study, search)
    sections.append(html.Section("All trials", tables=[every_trial(study)]))
    facts = [("command", study.command), ("commit", study.commit), ("data", study.data)]
    facts.append(("features", look_ahead(study.encoders) or "unknown"))
    facts += [("versions", ", ".join(f"{name} {version}" for name, version in study.versions.items()))]
    sections.append(html.Section("How to reproduce it", facts=[fact for fact in facts if fact[1]]))
    return html.write(study.folder / "report.html", f"Study {study.name}", sections, caveat=study_caveat(study))


def _optimism(study: StudySummary) -> str:
    if study.choice_optimism is None:
        return f"{_OPTIMISM}."
    return f"{_OPTIMISM}: by about {study.choice_optimism:+.3f} of P for the choice among {len(study.complete)} trials."


def _search_section(study: StudySummary, search: SearchFigures) -> list[html.Section]:
    note = importance_note(study.importance) if study.importance else ""
    rows = importance_rows(study.importance) if study.importance else []
    if not note and not search.pictures:
        return []
    words = [*search.words, *([] if rows else [note])]
    tables = [Table.of("Importance", rows, note=note)] if rows else []
    return [html.Section("What the searched settings did", words, tables, search.pictures)]
