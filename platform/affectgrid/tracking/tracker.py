"""An experiment of an MLflow store: opened once, in the driver; it opens the logs of runs."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from affectgrid.errors import Problem, TrackingError
from affectgrid.tracking.connection import absolute, client, is_server, knock, locked, unreachable
from affectgrid.tracking.delivery import deliver_all
from affectgrid.tracking.run_log import RunLog

_KEY = "affectgrid.key"
_PARENT = "mlflow.parentRunId"


@dataclasses.dataclass(frozen=True)
class Tracker:
    """One experiment of an MLflow store that has answered."""

    uri: str
    experiment: str
    experiment_id: str
    spool: Path

    @property
    def open_command(self) -> str:
        """The command that shows the log in a browser."""
        return f"open {self.uri}" if is_server(self.uri) else f"mlflow ui --backend-store-uri {self.uri}"

    def study(self, name: str, params: Mapping[str, object], tags: Mapping[str, object]) -> RunLog:
        """The run called `name`, reopened where it exists; children that a kill left RUNNING are closed as KILLED."""
        run = self._run(name, f"study:{name}", {}, tags)
        if not run.fresh:
            for child in self._search(f"tags.`{_PARENT}` = '{run.run_id}' and attributes.status = 'RUNNING'"):
                client(self.uri).set_terminated(child, "KILLED")
        run.params(params, first=run.fresh)
        return run

    def child(
        self,
        parent: RunLog,
        key: str,
        name: str,
        *,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, object] | None = None,
        new: bool = False,
    ) -> RunLog:
        """The child of `parent` under `key`, reopened where it exists: a trial that is tried again has one run.

        `new`: the caller knows that there is none, which saves the search for it.
        """
        run = self._run(name, f"{parent.run_id}:{key}", {_PARENT: parent.run_id}, tags or {}, new=new)
        if params:
            run.params(params, first=run.fresh)
        return run

    def _run(
        self, name: str, key: str, links: Mapping[str, str], tags: Mapping[str, object], *, new: bool = False
    ) -> RunLog:
        mlflow = client(self.uri)
        key = hashlib.sha256(key.encode()).hexdigest()  # any name is safe in the filter
        found = [] if new else self._search(f"tags.`{_KEY}` = '{key}'")
        if found:
            mlflow.update_run(found[0], status="RUNNING")
            run = RunLog(self.uri, self.experiment_id, found[0], self.spool)
            run.tags(tags)
            return run
        texts = {name: str(value) for name, value in tags.items()}
        made = mlflow.create_run(self.experiment_id, tags={**texts, **links, _KEY: key}, run_name=name)
        return RunLog(self.uri, self.experiment_id, made.info.run_id, self.spool, fresh=True)

    def _search(self, condition: str) -> list[str]:
        runs = client(self.uri).search_runs([self.experiment_id], filter_string=condition, max_results=10_000)
        return [run.info.run_id for run in runs]


def open_tracker(uri: str | None = None, experiment: str = "affectgrid", *, artifacts: Path | None = None) -> Tracker:
    """Make the experiment, and its database where that is a file, before any worker logs to it.

    Call it once, in the driver: several clients that initialise an empty database at once break it. `uri` falls back on
    ``MLFLOW_TRACKING_URI`` and then on ``mlflow.db`` in the current folder. `artifacts` is where files go, beside the
    database by default; a server decides that itself. Raises TrackingError within 30 s when nothing answers.
    """
    uri = absolute(uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")
    database = Path(urlsplit(uri).path[1:]) if uri.startswith("sqlite:") else None
    beside = database.parent if database else Path.cwd()
    spool = (
        (artifacts or beside / "mlartifacts").resolve().with_name("mlflow-spool") if database else _server_spool(uri)
    )
    try:
        if database is None:
            if is_server(uri):
                knock(uri)
            experiment_id = _experiment(uri, experiment, None)
        else:
            database.parent.mkdir(parents=True, exist_ok=True)
            with locked(database.with_suffix(".lock")):
                experiment_id = _experiment(uri, experiment, (artifacts or beside / "mlartifacts").resolve())
    except TrackingError:
        raise
    except Exception as error:
        raise unreachable(uri, str(error)) from error
    tracker = Tracker(uri, experiment, experiment_id, spool)
    deliver_all(uri, spool)
    return tracker


def _experiment(uri: str, name: str, artifacts: Path | None) -> str:
    mlflow = client(uri)
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        return str(mlflow.create_experiment(name, artifact_location=artifacts.as_uri() if artifacts else None))
    if found.lifecycle_stage != "active":
        hint = f"mlflow experiments restore --experiment-id {found.experiment_id}, or use another name"
        raise TrackingError(
            Problem(
                "TRK-DELETED",
                where=uri,
                found=f"experiment {name!r} was deleted",
                expected="an active experiment",
                hint=hint,
            )
        )
    return str(found.experiment_id)


def _server_spool(uri: str) -> Path:
    return Path(tempfile.gettempdir()) / "affectgrid-mlflow-spool" / uuid.uuid5(uuid.NAMESPACE_URL, uri).hex
