"""Print the address of each study in a database, the newest first: ``make ui`` calls it before the server starts."""

from __future__ import annotations

import sys
from pathlib import Path

from affectgrid.tracking.connection import client
from affectgrid.tracking.pages import LEVEL, LOCAL, STUDY, view_link
from affectgrid.tracking.relocation import ARTIFACTS, follow_artifacts

_MAX_SHOWN = 5


def study_links(uri: str) -> list[str]:
    """A line for each of the newest studies of every experiment."""
    mlflow = client(uri)
    experiments = [experiment.experiment_id for experiment in mlflow.search_experiments()]
    runs = mlflow.search_runs(experiments, f"tags.`{LEVEL}` = 'study'", max_results=_MAX_SHOWN)
    return [f"{run.data.tags[STUDY]}: {view_link(LOCAL, run.info.experiment_id, run.data.tags[STUDY])}" for run in runs]


if __name__ == "__main__":
    file = Path(sys.argv[1].removeprefix("sqlite:///"))
    follow_artifacts(file, file.with_name(ARTIFACTS))
    sys.stdout.writelines(f"{line}\n" for line in study_links(sys.argv[1]))
