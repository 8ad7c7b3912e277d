"""Reaching MLflow: the client, whether a server answers, and what counts as an outage."""

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

from affectgrid.errors import Problem, TrackingError

_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # with its default a training waits for minutes
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


@functools.cache
def client(uri: str) -> Any:
    """MLflow's client for a store, made once in a process. Imports mlflow, which takes seconds."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow

    for noisy in ("mlflow.store.db.utils", "mlflow.tracking", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return mlflow.MlflowClient(tracking_uri=uri)


def is_outage(error: Exception) -> bool:
    """Whether trying again later may help; a refused value will be refused again."""
    code = getattr(error, "error_code", None)
    return not isinstance(error, FileNotFoundError) and code not in {
        "INVALID_PARAMETER_VALUE",
        "RESOURCE_DOES_NOT_EXIST",
        "BAD_REQUEST",
        "PERMISSION_DENIED",
    }


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
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise unreachable(uri, str(error) or type(error).__name__) from error
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


def unreachable(uri: str, found: str) -> TrackingError:
    """TRK-UNREACHABLE, with what to do about it."""
    port = urlsplit(uri).port or 5000 if is_server(uri) else 5000
    hint = (
        f"start it with `mlflow server --port {port}`, or unset MLFLOW_TRACKING_URI to log to a local file"
        if is_server(uri)
        else "give the path of a database that can be written, as sqlite:////absolute/path/mlflow.db"
    )
    return TrackingError(
        Problem("TRK-UNREACHABLE", where=uri, found=found, expected="an MLflow store that responds", hint=hint)
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
