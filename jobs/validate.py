"""Check a data set before an expensive job starts: every problem at once, as a table, JSON and HTML."""

from __future__ import annotations

from pydantic import Field

from affectgrid.cli import OutOption, run
from affectgrid.distributed.options import CatalogOptions


class Validate(OutOption, CatalogOptions):
    """Check annotations, videos and crops. Exit status 0: sound (warnings allowed); 2: errors."""

    tolerance_frames: int = Field(10, ge=0, description="frames by which annotation, video and crops may differ")


def main(options: Validate) -> int:
    # here, not above: torch and Ray take seconds, and --help or a wrong option needs neither
    from affectgrid.data.validation import validate
    from affectgrid.data.workspace import Workspace
    from affectgrid.distributed.prepare import open_catalog
    from affectgrid.reporting.problems import print_problems, write_problems
    from affectgrid.storage import results

    workspace = Workspace.open(options.out)
    catalog = open_catalog(options, workspace)
    problems = validate(catalog, tolerance_frames=options.tolerance_frames)
    with results(workspace.root) as folder:
        write_problems(problems, catalog, folder)
    print_problems(problems, len(catalog.tracks), workspace.root.show("problems.html"))
    return 2 if any(problem.severity == "error" for problem in problems) else 0


if __name__ == "__main__":
    run(main, Validate)
