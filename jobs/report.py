"""Print a study's tables as Markdown, LaTeX or CSV, for a README or a paper."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from affectgrid.cli import run
from affectgrid.settings import Settings


class Report(Settings):
    """Print what a study found, and the command and commit that made it."""

    study: str = Field(description="folder or address of the study, e.g. outputs/studies/arms")
    style: Literal["markdown", "latex", "csv"] = Field("markdown", description="csv: the tables alone")


def main(options: Report) -> int:
    # here, not above: matplotlib and torch take seconds, and --help needs neither
    from affectgrid.analysis.summary import StudySummary
    from affectgrid.reporting.study.tables import headline, study_tables
    from affectgrid.storage import WorkingCopy

    summary = StudySummary.read(WorkingCopy(options.study))
    origin = f"{summary.command}, commit {summary.commit[:12]}, data {summary.data}"
    before, after = {
        "markdown": (f"**{headline(summary)}**\n", f"`{origin}`"),
        "latex": (f"% {headline(summary)}", f"% {origin}"),
        "csv": ("", ""),
    }[options.style]
    tables = [getattr(table, options.style)() for table in study_tables(summary)]
    print(*filter(None, (before, *tables, after)), sep="\n")
    return 0


if __name__ == "__main__":
    run(main, Report)
