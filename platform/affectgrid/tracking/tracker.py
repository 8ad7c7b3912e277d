"""The experiment log: MLflow, by explicit run ids. Nothing else imports mlflow, and this only when a run is logged."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import http.client
import itertools
import json
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from affectgrid.errors import Problem, TrackingError

_log = logging.getLogger(__name__)
Status = Literal["FINISHED", "FAILED", "KILLED"]
_KEY = "affectgrid.key"
_PARENT = "mlflow.parentRunId"
_RETRY_AFTER_S = 20.0  # between two attempts to reach a server that has gone away
_BATCH = 100  # parameters, or tags, that one request may carry; ten times as many things in all
_MAX_PARAM_LENGTH = 6000
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # its default keeps a training waiting for minutes
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_down_until: dict[str, float] = {}


def _now_ms() -> int:
    return int(time.time() * 1000)


@dataclasses.dataclass(frozen=True)
class Point:
    """Metrics of one step, usually an epoch, and when they were known, in milliseconds since 1970."""

    step: int
    values: Mapping[str, float]
    time_ms: int = dataclasses.field(default_factory=_now_ms)


@dataclasses.dataclass(frozen=True)
class RunLog:
    """One MLflow run. It pickles, so that any process of the cluster can log to it.

    What cannot be delivered because MLflow has gone away waits in `spool` and is delivered, in order, by a later call
    or by the next `open_tracker`. Every record carries its time, so that delivering it twice leaves one.
    """

    uri: str
    experiment_id: str
    run_id: str
    spool: Path
    fresh: bool = False  # made by the call that returned it: so it has no children yet

    @property
    def page(self) -> str:
        """Where the run's page is, relative to the address of MLflow's user interface."""
        return f"#/experiments/{self.experiment_id}/runs/{self.run_id}"

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters.

        One that already has another value keeps it: MLflow's parameters never change; the new one is a tag.
        """
        self._params(values, first=False)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics of a step, usually an epoch."""
        self.points([Point(step, values)])

    def points(self, points: Iterable[Point]) -> None:
        """Log metrics of several steps at once: a request has a price of its own, whatever it carries."""
        self.write(points, {})

    def tags(self, values: Mapping[str, object]) -> None:
        """Set tags; a tag that is there is replaced."""
        self.write([], values)

    def write(self, points: Iterable[Point], tags: Mapping[str, object]) -> None:
        """Metrics and tags in one request."""
        rows = [(name, float(value), one.time_ms, one.step) for one in points for name, value in one.values.items()]
        self._log({"op": "write", "rows": rows, "tags": {name: str(value) for name, value in tags.items()}})

    def steps(self, metric: str) -> set[int] | None:
        """The steps at which a metric was logged; None while MLflow cannot be reached."""
        try:
            return {point.step for point in _client(self.uri).get_metric_history(self.run_id, metric)}
        except Exception as error:
            if not _is_outage(error):
                raise
            return None

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a copy of a file, or of a folder's contents, under `folder` in the run's artefacts."""
        self._log({"op": "artifact", "path": str(path.resolve()), "folder": folder})

    def finish(self, status: Status = "FINISHED") -> None:
        """Close the run."""
        self._log({"op": "status", "status": status, "time": _now_ms()})

    def _params(self, values: Mapping[str, object], *, first: bool) -> None:
        """`first`: the run has none yet, and need not be asked."""
        texts = {name: str(value)[:_MAX_PARAM_LENGTH] for name, value in values.items()}
        self._log({"op": "params", "values": texts, "first": first})

    def _log(self, record: dict[str, Any]) -> None:
        with _locked(self._spool_file):
            if time.monotonic() >= _down_until.get(self.uri, 0.0):
                try:
                    self._deliver_spooled()
                    _apply(self, record)
                    return
                except Exception as error:  # requests, sqlalchemy and mlflow each have their own
                    if not _is_outage(error):
                        raise
                    _down_until[self.uri] = time.monotonic() + _RETRY_AFTER_S
                    _log.warning(
                        "MLflow at %s cannot be reached (%s); keeping what is logged in %s", self.uri, error, self.spool
                    )
            self._keep(record)

    @property
    def _spool_file(self) -> Path:
        return self.spool / f"{self.run_id}.jsonl"

    def _keep(self, record: dict[str, Any]) -> None:
        if record["op"] == "artifact":
            copy = self.spool / self.run_id / uuid.uuid4().hex / Path(record["path"]).name
            copy.parent.mkdir(parents=True)
            source = Path(record["path"])
            shutil.copytree(source, copy) if source.is_dir() else shutil.copy2(source, copy)
            record = {**record, "path": str(copy)}
        line = {**record, "uri": self.uri, "experiment_id": self.experiment_id}
        with self._spool_file.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _deliver_spooled(self) -> None:
        if not self._spool_file.exists():
            return
        for line in self._spool_file.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # a kill may leave half a last line
                _apply(self, json.loads(line))
        self._spool_file.unlink()
        shutil.rmtree(self.spool / self.run_id, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class Tracker:
    """One experiment of an MLflow store that is known to answer."""

    uri: str
    experiment: str
    experiment_id: str
    spool: Path

    @property
    def open_command(self) -> str:
        """What shows the log in a browser."""
        return f"open {self.uri}" if _is_server(self.uri) else f"mlflow ui --backend-store-uri {self.uri}"

    def study(self, name: str, params: Mapping[str, object], tags: Mapping[str, object]) -> RunLog:
        """The run called `name`, reopened where it exists; children that a kill left RUNNING are closed as KILLED."""
        run = self._run(name, f"study:{name}", {}, tags)
        if not run.fresh:
            for child in self._search(f"tags.`{_PARENT}` = '{run.run_id}' and attributes.status = 'RUNNING'"):
                _client(self.uri).set_terminated(child, "KILLED")
        run._params(params, first=run.fresh)
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

        `new`: the caller knows that there is none, and spares the search for it.
        """
        run = self._run(name, f"{parent.run_id}:{key}", {_PARENT: parent.run_id}, tags or {}, new=new)
        if params:
            run._params(params, first=run.fresh)
        return run

    def _run(
        self, name: str, key: str, links: Mapping[str, str], tags: Mapping[str, object], *, new: bool = False
    ) -> RunLog:
        client = _client(self.uri)
        key = hashlib.sha256(key.encode()).hexdigest()  # any name is safe in a filter
        found = [] if new else self._search(f"tags.`{_KEY}` = '{key}'")
        if found:
            client.update_run(found[0], status="RUNNING")
            run = RunLog(self.uri, self.experiment_id, found[0], self.spool)
            run.tags(tags)
            return run
        texts = {name: str(value) for name, value in tags.items()}
        made = client.create_run(self.experiment_id, tags={**texts, **links, _KEY: key}, run_name=name)
        return RunLog(self.uri, self.experiment_id, made.info.run_id, self.spool, fresh=True)

    def _search(self, condition: str) -> list[str]:
        runs = _client(self.uri).search_runs([self.experiment_id], filter_string=condition, max_results=10_000)
        return [run.info.run_id for run in runs]


def open_tracker(uri: str | None = None, experiment: str = "affectgrid", *, artifacts: Path | None = None) -> Tracker:
    """Make the experiment, and its database where that is a file, before any worker logs to it.

    Call it in the driver, once: eight clients that meet an empty database break it. `uri` falls back on
    ``MLFLOW_TRACKING_URI`` and then on ``mlflow.db`` in the current folder. `artifacts` is where files go, beside the
    database by default; a server decides that itself. Raises TrackingError within 30 s when nothing answers.
    """
    uri = _absolute(uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")
    database = Path(urlsplit(uri).path[1:]) if uri.startswith("sqlite:") else None
    beside = database.parent if database else Path.cwd()
    spool = (
        (artifacts or beside / "mlartifacts").resolve().with_name("mlflow-spool") if database else _server_spool(uri)
    )
    try:
        if database is None:
            if _is_server(uri):
                _knock(uri)
            experiment_id = _experiment(uri, experiment, None)
        else:
            database.parent.mkdir(parents=True, exist_ok=True)
            with _locked(database.with_suffix(".lock")):
                experiment_id = _experiment(uri, experiment, (artifacts or beside / "mlartifacts").resolve())
    except TrackingError:
        raise
    except Exception as error:
        raise _unreachable(uri, str(error)) from error
    tracker = Tracker(uri, experiment, experiment_id, spool)
    _deliver_all(tracker)
    return tracker


def _experiment(uri: str, name: str, artifacts: Path | None) -> str:
    client = _client(uri)
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, artifact_location=artifacts.as_uri() if artifacts else None))
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


@functools.cache
def _client(uri: str) -> Any:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow  # takes seconds

    for noisy in ("mlflow.store.db.utils", "mlflow.tracking", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return mlflow.MlflowClient(tracking_uri=uri)


def _apply(run: RunLog, record: Mapping[str, Any]) -> None:
    from mlflow.entities import Metric, Param, RunTag

    client = _client(run.uri)
    match record["op"]:
        case "write" | "metrics" | "tags":  # the last two: what an earlier version kept in its spool
            all_tags = [RunTag(*pair) for pair in record.get("tags", record.get("values", {})).items()]
            for rows, tags in itertools.zip_longest(
                _chunks(record.get("rows", []), 10 * _BATCH - _BATCH), _chunks(all_tags, _BATCH), fillvalue=()
            ):
                client.log_batch(run.run_id, metrics=[Metric(*row) for row in rows], tags=list(tags))
        case "params":
            logged = {} if record.get("first") else client.get_run(run.run_id).data.params
            new, changed = _new_params(logged, record["values"])
            for pairs in _chunks(list(new.items()), _BATCH):
                client.log_batch(run.run_id, params=[Param(*pair) for pair in pairs])
            if changed:
                _log.warning("run %s: parameters changed since it was first logged: %s", run.run_id, changed)
                noted = {f"changed.{name}": value for name, value in changed.items()}
                _apply(run, {"op": "write", "rows": [], "tags": noted})
        case "artifact":
            log = client.log_artifacts if Path(record["path"]).is_dir() else client.log_artifact
            log(run.run_id, record["path"], record["folder"])
        case "status":
            client.set_terminated(run.run_id, record["status"], record["time"])


def _new_params(logged: Mapping[str, str], values: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split into parameters that are not there yet, and those that are there with another value."""
    new = {name: value for name, value in values.items() if name not in logged}
    changed = {name: value for name, value in values.items() if logged.get(name, value) != value}
    return new, changed


def _is_outage(error: Exception) -> bool:
    """Whether trying again later may help; a refused value will be refused again."""
    code = getattr(error, "error_code", None)
    return not isinstance(error, FileNotFoundError) and code not in {
        "INVALID_PARAMETER_VALUE",
        "RESOURCE_DOES_NOT_EXIST",
        "BAD_REQUEST",
        "PERMISSION_DENIED",
    }


def _deliver_all(tracker: Tracker) -> None:
    for file in tracker.spool.glob("*.jsonl"):
        run = RunLog(tracker.uri, tracker.experiment_id, file.stem, tracker.spool)
        try:
            with _locked(file):
                run._deliver_spooled()
        except Exception as error:
            _log.warning("%s could not be delivered to MLflow: %s", file, error)


def _is_server(uri: str) -> bool:
    return urlsplit(uri).scheme in {"http", "https"}


def _server_spool(uri: str) -> Path:
    return Path(tempfile.gettempdir()) / "affectgrid-mlflow-spool" / uuid.uuid5(uuid.NAMESPACE_URL, uri).hex


def _knock(uri: str) -> None:
    """One cheap request with a short time limit: MLflow's own client retries for minutes."""
    parts = urlsplit(uri)
    if not parts.hostname:
        raise _unreachable(uri, "no host in the address")
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname, parts.port, timeout=5)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/health")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(uri, str(error) or type(error).__name__) from error
    finally:
        connection.close()
    if status == http.HTTPStatus.FORBIDDEN:
        hint = f"start it with --allowed-hosts {parts.hostname}"
        raise TrackingError(
            Problem(
                "TRK-FORBIDDEN",
                where=uri,
                found="the server refuses its own host name (403)",
                expected="200",
                hint=hint,
            )
        )


def _unreachable(uri: str, found: str) -> TrackingError:
    port = urlsplit(uri).port or 5000 if _is_server(uri) else 5000
    hint = (
        f"start it with `mlflow server --port {port}`, or unset MLFLOW_TRACKING_URI to log to a local file"
        if _is_server(uri)
        else "give the path of a database that can be written, as sqlite:////absolute/path/mlflow.db"
    )
    return TrackingError(
        Problem("TRK-UNREACHABLE", where=uri, found=found, expected="an MLflow store that answers", hint=hint)
    )


def _absolute(uri: str) -> str:
    """A relative database would be another one in each worker's folder."""
    prefix = "sqlite:///"
    return prefix + str(Path(uri.removeprefix(prefix)).resolve()) if uri.startswith(prefix) else uri


def _chunks(rows: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that the kernel lets go of when the process dies."""
    lock = path.with_suffix(".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
