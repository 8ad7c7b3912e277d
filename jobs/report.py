"""Print a study's tables as Markdown, for a README or a paper."""

from __future__ import annotations

from pydantic import Field

from affectgrid.cli import run
from affectgrid.settings import Settings


class Report(Settings):
    """Print what a study found, and the command and commit that made it."""

    study: str = Field(description="folder or address of the study, e.g. outputs/studies/arms")


def main(options: Report) -> int:
    # here, not above: matplotlib and torch take seconds, and --help needs neither
    from affectgrid.analysis.summary import StudySummary
    from affectgrid.reporting.study.tables import headline, study_tables
    from affectgrid.storage import WorkingCopy

    summary = StudySummary.read(WorkingCopy(options.study))
    print(f"**{headline(summary)}**\n")
    for table in study_tables(summary):
        print(table.markdown())
    print(f"`{summary.command}`, commit {summary.commit[:12]}, data {summary.data}")
    return 0


if __name__ == "__main__":
    run(main, Report)
