"""Addresses in MLflow's user interface: the runs of one study, with its columns, the best first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

LOCAL = "http://127.0.0.1:5000"  # where `make ui` serves a database in a file
KIND = {"mlflow.experimentKind": "custom_model_development"}  # else the page of an experiment is one for chat traces
STUDY, LEVEL = "affectgrid.study", "affectgrid.level"  # tags of every run: which study, and study, trial or seed
NOTE = "mlflow.note.content"  # the tag whose Markdown the page of a run or an experiment shows
LEVELS = ("study", "trial", "seed")
_VIEW = "mlflow.sharedViewState."  # begins the name of an experiment's tag that holds a view; MLflow 3.17 reads it so


def view_key(study: str) -> str:
    """What the address of a study's view ends with."""
    return hashlib.sha256(study.encode()).hexdigest()[:12]


def view_tag(study: str, columns: Sequence[str], sort_by: str) -> dict[str, str]:
    """The experiment's tag that holds the view: trials of one study, with these columns, the highest `sort_by` first.

    `columns` and `sort_by` as MLflow calls them: ``metrics.`best/p` ``, ``params.`optim.lr` ``, ``tags.`state` ``.
    """
    state = {
        "searchFilter": f"tags.`{STUDY}` = '{study}' and tags.`{LEVEL}` = 'trial'",
        "orderByKey": sort_by,
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": [*columns],
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsHiddenMode": "FIRST_20_RUNS",
        "viewMaximized": True,
        "runListHidden": False,
        "groupBy": None,
        "groupsExpanded": {},
        "autoRefreshEnabled": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "globalLineChartConfig": {},
    }
    return {f"{_VIEW}{view_key(study)}": json.dumps(state)}


def view_link(server: str, experiment_id: str, study: str) -> str:
    """The address of that view."""
    return (
        f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs"
        f"?workflowType=machine_learning&viewStateShareKey={view_key(study)}"
    )
