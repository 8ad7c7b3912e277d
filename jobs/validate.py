"""Check a data set before an expensive job starts: every problem at once, as a table, JSON and HTML."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT / "platform")  # this checkout, not an installed copy; the jobs folder itself shadows nothing

from affectgrid.data.validation import validate
from affectgrid.reporting.problems import print_problems, write_problems

from affectgrid.cli import run
from affectgrid.data.workspace import Workspace
from affectgrid.distributed.cluster import connect
from affectgrid.distributed.prepare import open_catalog
from affectgrid.settings import Settings, option


class Validate(Settings):
    """Check annotations, videos and crops. Exit status 0: sound (warnings allowed); 2: errors."""

    data: str = option("rendered", "a folder in Aff-Wild2's layout, or 'rendered'")
    out: Path = option(ROOT / "outputs", "folder for problems.json and problems.html")
    tolerance_frames: int = option(5, "frames by which annotation, video and crops may differ", ge=0)


def main(options: Validate) -> int:
    workspace = Workspace.open(options.out)
    with connect():
        catalog = open_catalog(options.data, workspace)
    problems = validate(catalog, tolerance_frames=options.tolerance_frames)
    print_problems(problems, catalog)
    write_problems(problems, workspace.root)
    return 2 if any(problem.severity == "error" for problem in problems) else 0


if __name__ == "__main__":
    run(main, Validate)
