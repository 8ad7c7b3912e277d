"""Records on their way to MLflow: delivered at once, or kept in a folder while it cannot be reached."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from affectgrid.tracking.connection import client, is_outage, locked

_log = logging.getLogger(__name__)
_RETRY_AFTER_S = 20.0  # between two attempts to reach a server that has gone away
_BATCH = 100  # parameters, or tags, that one request may carry; ten times as many things in all
_down_until: dict[str, float] = {}


@dataclasses.dataclass(frozen=True)
class Delivery:
    """The records of one run, in order. Every record carries its time, so that delivering it twice leaves one.

    Args:
        uri: of the MLflow store.
        run_id: of the run.
        spool: folder where records wait.
    """

    uri: str
    run_id: str
    spool: Path

    @property
    def kept(self) -> Path:
        """The file of records that wait."""
        return self.spool / f"{self.run_id}.jsonl"

    def send(self, record: dict[str, Any]) -> None:
        """Deliver a record after those that wait, or keep it while MLflow cannot be reached. A refusal is raised."""
        with locked(self.kept):
            if time.monotonic() >= _down_until.get(self.uri, 0.0):
                try:
                    self._deliver_kept()
                    _apply(self, record)
                    return
                except Exception as error:  # requests, sqlalchemy and mlflow each have their own
                    if not is_outage(error):
                        raise
                    _down_until[self.uri] = time.monotonic() + _RETRY_AFTER_S
                    _log.warning(
                        "MLflow at %s cannot be reached (%s); keeping what is logged in %s", self.uri, error, self.spool
                    )
            self._keep(record)

    def deliver_kept(self) -> None:
        """Deliver what waits. Raises what MLflow raises; what was not delivered stays."""
        with locked(self.kept):
            self._deliver_kept()

    def _keep(self, record: dict[str, Any]) -> None:
        if record["op"] == "artifact":
            copy = self.spool / self.run_id / uuid.uuid4().hex / Path(record["path"]).name
            copy.parent.mkdir(parents=True)
            source = Path(record["path"])
            shutil.copytree(source, copy) if source.is_dir() else shutil.copy2(source, copy)
            record = {**record, "path": str(copy)}
        with self.kept.open("a") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _deliver_kept(self) -> None:
        if not self.kept.exists():
            return
        for line in self.kept.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # a kill may leave half of the last line
                _apply(self, json.loads(line))
        self.kept.unlink()
        shutil.rmtree(self.spool / self.run_id, ignore_errors=True)


def deliver_all(uri: str, spool: Path) -> None:
    """Deliver the records that earlier processes left in `spool`; those that still cannot be stay, with a warning."""
    for file in spool.glob("*.jsonl"):
        try:
            Delivery(uri, file.stem, spool).deliver_kept()
        except Exception as error:
            _log.warning("%s could not be delivered to MLflow: %s", file, error)


def _apply(run: Delivery, record: Mapping[str, Any]) -> None:
    from mlflow.entities import Metric, Param, RunTag

    mlflow = client(run.uri)
    match record["op"]:
        case "write":
            all_tags = [RunTag(*pair) for pair in record["tags"].items()]
            for rows, tags in itertools.zip_longest(
                _chunks(record["rows"], 10 * _BATCH - _BATCH), _chunks(all_tags, _BATCH), fillvalue=()
            ):
                mlflow.log_batch(run.run_id, metrics=[Metric(*row) for row in rows], tags=list(tags))
        case "params":
            logged = {} if record["first"] else mlflow.get_run(run.run_id).data.params
            new, changed = _new_params(logged, record["values"])
            for pairs in _chunks(list(new.items()), _BATCH):
                mlflow.log_batch(run.run_id, params=[Param(*pair) for pair in pairs])
            if changed:
                _log.warning("run %s: parameters changed since it was first logged: %s", run.run_id, changed)
                noted = {f"changed.{name}": value for name, value in changed.items()}
                _apply(run, {"op": "write", "rows": [], "tags": noted})
        case "artifact":
            log = mlflow.log_artifacts if Path(record["path"]).is_dir() else mlflow.log_artifact
            log(run.run_id, record["path"], record["folder"])
        case "status":
            mlflow.set_terminated(run.run_id, record["status"], record["time"])


def _new_params(logged: Mapping[str, str], values: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split into parameters that are not there yet, and those that are there with another value."""
    new = {name: value for name, value in values.items() if name not in logged}
    changed = {name: value for name, value in values.items() if logged.get(name, value) != value}
    return new, changed


def _chunks(rows: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
