"""An experiment of an MLflow store: opened once, in the driver; it opens the logs of runs."""

from __future__ import annotations

import dataclasses
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from affectgrid.credentials import credentials_in, without_credentials
from affectgrid.errors import ConfigError, Problem, TrackingError
from affectgrid.storage import cache_folder
from affectgrid.tracking.connection import absolute, client, is_server, knock, locked, refusal, unreachable
from affectgrid.tracking.delivery import deliver_all
from affectgrid.tracking.models import fetch_model
from affectgrid.tracking.pages import KIND, LOCAL, view_link
from affectgrid.tracking.relocation import ARTIFACTS, follow_artifacts
from affectgrid.tracking.run_log import RunLog


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
        shown = without_credentials(self.uri)
        return f"open {shown}" if is_server(self.uri) else f"mlflow ui --backend-store-uri {shown}"

    def link(self, study: str) -> str:
        """The page with the trials of a study, the best first; of a database in a file while `open_command` runs."""
        return view_link(without_credentials(self.uri) if is_server(self.uri) else LOCAL, self.experiment_id, study)

    def study(self, name: str, params: Mapping[str, object], tags: Mapping[str, object]) -> RunLog:
        """The run called `name`, reopened where it exists; children that a kill left RUNNING are closed as KILLED."""
        run = self._run((name,)).opened(name, tags)
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
        time_ms: int | None = None,
    ) -> RunLog:
        """The child of `parent` under `key`, reopened where it exists: a trial that is tried again has one run.

        `new`: the caller knows that there is none, which saves the search for it. `time_ms`: when it began.
        """
        run = self._run((*parent.names, key)).opened(name, tags or {}, new=new, time_ms=time_ms)
        if params:
            run.params(params, first=run.fresh)
        return run

    def require_registry(self) -> None:
        """Ask for one registered model. Raises ConfigError (CFG-REGISTRY) where the store keeps none."""
        try:
            client(self.uri).search_registered_models(max_results=1)
        except Exception as error:  # of the store, which may be of any kind
            if (refused := refusal(self.uri, error)) is not None:
                raise refused from None
            where, found = without_credentials(self.uri), without_credentials(str(error).splitlines()[0])
            hint = "leave --register out, or use a server with a database, as in docs/mlflow-server.md"
            raise ConfigError(
                Problem("CFG-REGISTRY", where=where, found=found, expected="MLflow with a model registry", hint=hint)
            ) from None

    def fetch_model(self, address: str) -> Path:
        """The package of a model that was logged or registered, see `models.fetch_model`."""
        return fetch_model(self.uri, address)

    def find(self, name: str) -> RunLog:
        """The study's run of that name as it is, neither made nor reopened."""
        return self._run((name,))

    def _run(self, names: tuple[str, ...]) -> RunLog:
        return RunLog(self.uri, self.experiment_id, names, self.spool)


def open_tracker(uri: str | None = None, experiment: str = "affectgrid", *, artifacts: Path | None = None) -> Tracker:
    """Make the experiment, and its database where that is a file, before any worker logs to it.

    Call it once, in the driver: several clients that initialise an empty database at once break it. `uri` falls back on
    ``MLFLOW_TRACKING_URI`` and then on ``mlflow.db`` in the current folder. A user and password in a server's address
    move into this process's environment. `artifacts` is where files go, beside the database by default; a server
    decides that itself. Where a database was moved or copied together with its files, their addresses follow.

    Raises TrackingError: TRK-UNREACHABLE within 30 s when nothing answers, TRK-AUTH and TRK-FORBIDDEN when a server
    refuses this client, TRK-DELETED.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if is_server(uri):
        os.environ.update(credentials_in(uri))  # MLflow's client reads them there
        uri = without_credentials(uri)
    uri = absolute(uri)
    database = Path(urlsplit(uri).path[1:]) if uri.startswith("sqlite:") else None
    beside = database.parent if database else Path.cwd()
    files = (artifacts or beside / ARTIFACTS).resolve()
    try:
        if database is None:
            if is_server(uri):
                knock(uri)
            experiment_id = _experiment(uri, experiment, None)
        else:
            database.parent.mkdir(parents=True, exist_ok=True)
            with locked(database.with_suffix(".lock")):
                follow_artifacts(database, files)
                experiment_id = _experiment(uri, experiment, files)
    except TrackingError:
        raise
    except Exception as error:  # which may hold a database's address, and so its password
        raise refusal(uri, error) or unreachable(uri, str(error)) from None
    tracker = Tracker(uri, experiment, experiment_id, files.with_name("mlflow-spool") if database else _spool_of(uri))
    deliver_all(uri, tracker.spool)
    return tracker


def _experiment(uri: str, name: str, artifacts: Path | None) -> str:
    mlflow = client(uri)
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        location = artifacts.as_uri() if artifacts else None
        return str(mlflow.create_experiment(name, artifact_location=location, tags=KIND))
    if found.lifecycle_stage != "active":
        hint = f"mlflow experiments restore --experiment-id {found.experiment_id}, or use another name"
        raise TrackingError(
            Problem(
                "TRK-DELETED",
                where=without_credentials(uri),
                found=f"experiment {name!r} was deleted",
                expected="an active experiment",
                hint=hint,
            )
        )
    if not KIND.keys() <= found.tags.keys():
        mlflow.set_experiment_tag(found.experiment_id, *next(iter(KIND.items())))
    return str(found.experiment_id)


def _spool_of(uri: str) -> Path:
    """A folder of this user on this machine; where it is lost, a study logs its trials again."""
    return cache_folder() / "mlflow-spool" / uuid.uuid5(uuid.NAMESPACE_URL, without_credentials(uri)).hex
