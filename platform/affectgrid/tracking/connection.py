"""Reaching MLflow: the client, whether a server answers, and what counts as an outage or as a refusal."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import http.client
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from affectgrid.credentials import without_credentials
from affectgrid.errors import Problem, TrackingError

_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # with its default a training waits for minutes
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
_CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_STATUS = {"UNAUTHENTICATED": 401, "CUSTOMER_UNAUTHORIZED": 401, "PERMISSION_DENIED": 403}  # by MLflow's error code
_REFUSED_HOST = "Invalid Host header"  # what MLflow's server says with a 403 that --allowed-hosts would lift


@functools.cache
def client(uri: str) -> Any:
    """MLflow's client for a store, made once in a process. Imports mlflow, which takes seconds."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow

    for noisy in ("mlflow.store.db.utils", "mlflow.tracking", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it warns of each attempt at a dead server
    return mlflow.MlflowClient(tracking_uri=uri)


def is_outage(error: Exception) -> bool:
    """Whether trying again later may help; a refused value will be refused again."""
    if isinstance(error, (FileNotFoundError, LookupError)):
        return False
    refused_for_now = {http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS}
    code = _status(error)
    if code is not None:
        return code >= http.HTTPStatus.INTERNAL_SERVER_ERROR or code in refused_for_now
    return getattr(error, "error_code", None) not in {
        "INVALID_PARAMETER_VALUE",
        "RESOURCE_DOES_NOT_EXIST",
        "BAD_REQUEST",
    }


def refusal(uri: str, error: Exception) -> TrackingError | None:
    """TRK-AUTH or TRK-FORBIDDEN where MLflow refuses this client, whatever it asks for; else None."""
    status = _status(error) or _STATUS.get(getattr(error, "error_code", ""))
    response = getattr(error, "response", None)
    if status not in {http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN}:
        return None
    return _refused(uri, status, f"{error} {getattr(response, 'text', '')}")


def _refused(uri: str, status: int, text: str) -> TrackingError:
    code, expected, found = "TRK-AUTH", "a user who may write there", f"the server refuses this client ({status})"
    hint = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to what it accepts"
    if _REFUSED_HOST in text:
        code, expected, found = "TRK-FORBIDDEN", "200", f"the server refuses its own host name ({status})"
        hint = f"start it with --allowed-hosts {urlsplit(uri).hostname}"
    return TrackingError(Problem(code, where=without_credentials(uri), found=found, expected=expected, hint=hint))


def _status(error: Exception) -> int | None:
    """The HTTP status of an error of requests; MLflow's own errors have a code instead."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return int(status) if status else None


def credentials() -> dict[str, str]:
    """What MLflow's client reads from this process's environment to log in."""
    return {name: os.environ[name] for name in _CREDENTIALS if os.environ.get(name)}


def is_server(uri: str) -> bool:
    """Whether the address is a server's; else it is a database's."""
    return urlsplit(uri).scheme in {"http", "https"}


def knock(uri: str) -> None:
    """One cheap request with a short time limit: MLflow's own client retries for minutes. Raises TrackingError."""
    parts = urlsplit(uri)
    if not parts.hostname:
        raise unreachable(uri, "no host in the address")
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname, parts.port, timeout=5)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/health")
        response = connection.getresponse()
        text = response.read(1000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise unreachable(uri, str(error) or type(error).__name__) from error
    finally:
        connection.close()
    if _REFUSED_HOST in text:  # about a login MLflow's client is asked, which knows more ways to log in
        raise _refused(uri, response.status, text)


def unreachable(uri: str, found: str) -> TrackingError:
    """TRK-UNREACHABLE, with what to do about it."""
    port = urlsplit(uri).port or 5000 if is_server(uri) else 5000
    hint = (
        f"start it with `mlflow server --port {port}`, or unset MLFLOW_TRACKING_URI to log to a local file"
        if is_server(uri)
        else "give the path of a database that can be written, as sqlite:////absolute/path/mlflow.db"
    )
    return TrackingError(
        Problem(
            "TRK-UNREACHABLE",
            where=without_credentials(uri),
            found=without_credentials(found),
            expected="an MLflow store that responds",
            hint=hint,
        )
    )


def absolute(uri: str) -> str:
    """Make the path of a database absolute: a relative one would be another database in each worker's folder."""
    prefix = "sqlite:///"
    return prefix + str(Path(uri.removeprefix(prefix)).resolve()) if uri.startswith(prefix) else uri


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that the kernel releases when the process dies."""
    lock = path.with_suffix(".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
