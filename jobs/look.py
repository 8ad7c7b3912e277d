"""Look at tracks: one page that plays each video beside its labels, its predictions and its point on the plane."""

from __future__ import annotations

from pydantic import Field
from tyro.conf import Positional

from affectgrid.cli import OutOption, run
from affectgrid.distributed.options import CatalogOptions, open_catalog


class Look(OutOption, CatalogOptions):
    """Write look.html: of a data set (its labels), of a study's best model, or of videos that were predicted."""

    videos: Positional[tuple[str, ...]] = Field(
        (), description="videos or folders as given to jobs/predict.py; without any, the tracks of --data"
    )
    study: str | None = Field(None, description="name of a study under OUT: its best model's validation tracks")
    predictions: str | None = Field(
        None, description="a predictions.parquet; by default the study's, or of videos those under OUT"
    )
    embed: bool = Field(False, description="put the videos into the page, encoded small: one file to send")
    most: int = Field(24, gt=0, description="tracks on the page, the first ones; --tracks names others")


def main(options: Look) -> int:
    # here, not above: torch and Ray take seconds, and --help or a wrong option needs neither
    from affectgrid.data.workspace import Workspace
    from affectgrid.distributed.predict import open_all
    from affectgrid.reporting.look.course import read_courses
    from affectgrid.reporting.look.page import write_page
    from affectgrid.storage import Storage, results

    workspace = Workspace.open(options.out)
    catalog = (
        open_all(options.videos).only(options.tracks)
        if options.videos
        else open_catalog(options, workspace, labels="optional")
    )
    predictions = None
    if options.predictions:
        predictions = Storage(options.predictions)
    elif options.study:
        predictions = workspace.studies / options.study / "best" / "predictions.parquet"
    elif options.videos:
        predictions = workspace.predictions / "predictions.parquet"
    courses = read_courses(catalog.tracks, predictions, labelled=not options.study, most=options.most)
    with results(workspace.root) as folder:
        write_page(folder, courses, options.study or ", ".join(options.videos) or options.data, embed=options.embed)
    print(f"{len(courses)} of {len(catalog.tracks)} tracks: {workspace.root.show('look.html')}")
    return 0


if __name__ == "__main__":
    run(main, Look)
