"""Check a data set before an expensive job starts: every problem at once, as a table, JSON and HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from affectgrid.cli import OutOption, run
from affectgrid.data.splits.assignment import SplitSettings
from affectgrid.distributed.options import CatalogOptions, open_catalog


class Validate(OutOption, CatalogOptions):
    """Check annotations, videos and crops. Exit status 0: sound (warnings allowed); 2: errors."""

    tolerance_frames: int = Field(10, ge=0, description="frames by which annotation, video and crops may differ")
    crop: Literal["crops", "detect", "frame"] | None = Field(
        None, description="what will be encoded, as --visual.crop; by default crops where there are any, else frames"
    )
    deep: bool = Field(False, description="decode every crop, picture and sound, not a sample of each track")
    write_splits: Path | None = Field(None, description="draw new splits by --split and write them as --splits takes")
    split: SplitSettings = SplitSettings()


def main(options: Validate) -> int:
    # here, not above: torch and Ray take seconds, and --help or a wrong option needs neither
    from affectgrid.data.splits.assignment import draw_and_write
    from affectgrid.data.survey import TrackFacts
    from affectgrid.data.validation import validate
    from affectgrid.data.workspace import Workspace
    from affectgrid.reporting.corpus.problems import print_problems, write_problems
    from affectgrid.reporting.progress import bar
    from affectgrid.storage import results

    workspace = Workspace.open(options.out)
    catalog = open_catalog(options, workspace)
    facts: list[TrackFacts] = []
    with bar("validate", len(catalog.tracks), "tracks") as progress:
        problems = validate(
            catalog,
            tolerance_frames=options.tolerance_frames,
            crop=options.crop,
            deep=options.deep,
            progress=progress,
            survey=facts.append,
        )
    with results(workspace.root) as folder:
        write_problems(problems, catalog, facts, folder)
    print_problems(problems, len(catalog.tracks), workspace.root.show("doctor.html"))
    if options.write_splits:
        print(draw_and_write(options.write_splits, facts, problems, options.split))
    return 2 if any(problem.severity == "error" for problem in problems) else 0


if __name__ == "__main__":
    run(main, Validate)
