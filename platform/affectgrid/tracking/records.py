"""What each record asks of MLflow. Asking twice leaves one: a run is found by its key, and rows carry their time."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from affectgrid.tracking.connection import client
from affectgrid.tracking.models import deliver_model

Record = Mapping[str, Any]
Names = tuple[str, ...]  # of a study's run, its child's, its grandchild's: where a run is, before MLflow gave it an id
_log = logging.getLogger(__name__)
_KEY = "affectgrid.key"
MARK = "affectgrid.logged"  # begins the name of the tag that a run gets when it has everything
_PARENT = "mlflow.parentRunId"
_BATCH = 100  # parameters, or tags, that one request may carry; ten times as many things in all
_ids: dict[tuple[str, str, Names], str] = {}


def find_run(uri: str, experiment_id: str, names: Names) -> str:
    """The id of a run. Raises LookupError where MLflow has none."""
    place = (uri, experiment_id, names)
    if place not in _ids:
        found = _search(uri, experiment_id, f"tags.`{_KEY}` = '{_key(*place)}'")
        if not found:
            raise LookupError(f"MLflow has no run {' / '.join(names)}")
        _ids[place] = found[0]
    return _ids[place]


def find_marks(uri: str, experiment_id: str, run_id: str) -> frozenset[str]:
    """The marks of a run and of its children."""
    children = client(uri).search_runs([experiment_id], f"tags.`{_PARENT}` = '{run_id}'", max_results=10_000)
    runs = [client(uri).get_run(run_id), *children]
    return frozenset(value for run in runs for name, value in run.data.tags.items() if name.startswith(MARK))


def apply(uri: str, record: Record) -> bool:
    """Do what a record says. True if it made a run. Raises what requests, sqlalchemy and mlflow raise."""
    if record["op"] == "open":
        return _open(uri, record)
    if record["op"] == "experiment":
        for name, value in record["tags"].items():
            client(uri).set_experiment_tag(record["experiment_id"], name, value)
        return False
    mlflow, run_id = client(uri), find_run(uri, record["experiment_id"], tuple(record["run"]))
    match record["op"]:
        case "write":
            rows = _without_known(uri, run_id, record["rows"]) if record["once"] else record["rows"]
            _write(uri, run_id, rows, record["tags"])
        case "params":
            _log_params(uri, run_id, record)
        case "artifact":
            log = mlflow.log_artifacts if Path(record["path"]).is_dir() else mlflow.log_artifact
            log(run_id, record["path"], record["folder"])
        case "model":
            deliver_model(uri, run_id, record)
        case "inputs":
            _log_inputs(uri, run_id, record["data_sets"])
        case "status":
            if record.get("name"):
                mlflow.update_run(run_id, name=record["name"])
            mlflow.set_terminated(run_id, record["status"], record["time"])
    return False


def _open(uri: str, record: Record) -> bool:
    """Make a run, or reopen it; children of a study that a kill left RUNNING are closed as KILLED."""
    mlflow, experiment_id, names = client(uri), record["experiment_id"], tuple(record["run"])
    place = (uri, experiment_id, names)
    key = _key(*place)
    found = [] if record["new"] else _search(uri, experiment_id, f"tags.`{_KEY}` = '{key}'")
    if found:
        _ids[place] = found[0]
        mlflow.update_run(found[0], status="RUNNING")
        _write(uri, found[0], [], record["tags"])
        if len(names) == 1:
            running = f"tags.`{_PARENT}` = '{found[0]}' and attributes.status = 'RUNNING'"
            for child in _search(uri, experiment_id, running):
                mlflow.set_terminated(child, "KILLED")
        return False
    parent = {_PARENT: find_run(uri, experiment_id, names[:-1])} if len(names) > 1 else {}
    tags = {**record["tags"], **parent, _KEY: key}
    made = mlflow.create_run(experiment_id, record["time"], tags, record["name"])
    _ids[place] = made.info.run_id
    return True


def _key(uri: str, experiment_id: str, names: Names) -> str:
    """What a run is found by: any name is safe in a filter, and a run that was deleted takes its children along."""
    above = f"{find_run(uri, experiment_id, names[:-1])}:" if len(names) > 1 else "study:"
    return hashlib.sha256(f"{above}{names[-1]}".encode()).hexdigest()


def _search(uri: str, experiment_id: str, condition: str) -> list[str]:
    runs = client(uri).search_runs([experiment_id], filter_string=condition, max_results=10_000)
    return [run.info.run_id for run in runs]


def _write(uri: str, run_id: str, rows: list[Any], tags: Mapping[str, str]) -> None:
    from mlflow.entities import Metric, RunTag

    all_tags = [RunTag(*pair) for pair in tags.items()]
    chunks = _chunks(rows, 10 * _BATCH - _BATCH), _chunks(all_tags, _BATCH)
    for some_rows, some_tags in itertools.zip_longest(*chunks, fillvalue=()):
        client(uri).log_batch(run_id, metrics=[Metric(*row) for row in some_rows], tags=list(some_tags))


def _without_known(uri: str, run_id: str, rows: list[Any]) -> list[Any]:
    """Rows whose value the run does not have at that step, whenever it was logged."""
    mlflow = client(uri)
    names = {row[0] for row in rows} & mlflow.get_run(run_id).data.metrics.keys()
    known = {
        (name, point.step, repr(float(point.value)))  # as text: NaN is not itself
        for name in names
        for point in mlflow.get_metric_history(run_id, name)
    }
    return [row for row in rows if (row[0], row[3], repr(float(row[1]))) not in known]


def _log_params(uri: str, run_id: str, record: Record) -> None:
    from mlflow.entities import Param

    logged = {} if record["first"] else client(uri).get_run(run_id).data.params
    new = {name: value for name, value in record["values"].items() if name not in logged}
    changed = {name: value for name, value in record["values"].items() if logged.get(name, value) != value}
    for pairs in _chunks(list(new.items()), _BATCH):
        client(uri).log_batch(run_id, params=[Param(*pair) for pair in pairs])
    if changed:
        _log.warning("run %s: parameters changed since it was first logged: %s", run_id, changed)
        _write(uri, run_id, [], {f"changed.{name}": value for name, value in changed.items()})


def _log_inputs(uri: str, run_id: str, data_sets: list[dict[str, str]]) -> None:
    """The data sets that the run does not have yet."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    mlflow = client(uri)
    known = {(one.dataset.name, one.dataset.digest) for one in mlflow.get_run(run_id).inputs.dataset_inputs}
    new = [facts for facts in data_sets if (facts["name"], facts["digest"]) not in known]
    inputs = [
        DatasetInput(
            Dataset(facts["name"], facts["digest"], "local", facts["source"], profile=facts["profile"]),
            [InputTag("mlflow.data.context", facts["context"])],
        )
        for facts in new
    ]
    if inputs:
        mlflow.log_inputs(run_id, inputs)


def _chunks(rows: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
