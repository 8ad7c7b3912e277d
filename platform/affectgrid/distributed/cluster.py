"""Connect to Ray: join a running cluster where there is one, else start a private one that ends with the block."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import ray

PACKAGE = Path(__file__).resolve().parents[1]
T = TypeVar("T")
_FORWARDED = (
    "HF_HUB_OFFLINE",
    "HF_HOME",
    "AFFECTGRID_CACHE",
    "AFFECTGRID_PROMPTS",
    "AFFECTGRID_STAGED_GB",
)


@contextlib.contextmanager
def connect(address: str | None = None, *, num_cpus: int | None = None, quiet: bool = True) -> Iterator[None]:
    """Join the cluster at `address`, or the one that ``RAY_ADDRESS`` names, else start a private one.

    A job that was submitted finds its cluster through ``RAY_ADDRESS``. A private cluster ends with the block; one that
    was joined keeps running. Workers import this very checkout: the package travels as a Ray `py_module`.

    Args:
        address: ``host:port``, ``ray://...``, ``auto`` for a cluster on this host, or ``local`` for a private one.
        num_cpus: cores of a private cluster; all of them by default.
        quiet: hide what workers print and Ray's own chatter; warnings and errors stay.
    """
    if ray.is_initialized():
        yield
        return
    target = address or os.environ.get("RAY_ADDRESS") or "local"
    private = target == "local"
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"num_cpus": num_cpus, "include_dashboard": False} if private else {}
        if private and "RAY_TMPDIR" not in os.environ:
            # Short: Ray puts a socket there, and a socket's path holds 107 bytes.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ag-", ignore_cleanup_errors=True))
            options["_temp_dir"] = folder
        if quiet:
            options |= {"log_to_driver": False, "logging_level": logging.ERROR}
        with _own_sigterm_handler():
            ray.init(target, runtime_env=runtime_env(), **options)
        stack.callback(ray.shutdown)
        _protect_token()
        yield


@contextlib.contextmanager
def _own_sigterm_handler() -> Iterator[None]:
    """Keep this process's SIGTERM handler: Ray replaces it with one that prints a stack and aborts (status -6)."""
    own = signal.getsignal(signal.SIGTERM)
    yield
    if own is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, own)


def runtime_env() -> dict[str, Any]:
    """What every worker gets: this package, and the settings that must be the same everywhere."""
    submitted = _submitted_env_vars()
    forwarded = {name: os.environ[name] for name in _FORWARDED if name in os.environ and name not in submitted}
    return {"py_modules": [str(PACKAGE)], "env_vars": forwarded}


def _submitted_env_vars() -> dict[str, str]:
    """Variables that came with a submitted job. Workers get them anyway, and Ray refuses a name given twice."""
    try:
        config = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
        return dict((config.get("runtime_env") or {}).get("env_vars") or {})
    except (ValueError, AttributeError):
        return {}


def completed(pending: Mapping[ray.ObjectRef, T]) -> Iterator[tuple[T, ray.ObjectRef]]:
    """Yield each value of `pending` with its reference as it finishes; `ray.get` raises for a failed one."""
    left = dict(pending)
    while left:
        (ready,), _ = ray.wait(list(left), num_returns=1)
        yield left.pop(ready), ready


def num_gpus() -> float:
    """GPUs of the cluster at its full size: an autoscaler adds a node with one only for work that asks for one."""
    return full_size().get("GPU", 0.0)


def num_cpus() -> int:
    """Cores of the cluster at its full size."""
    return max(1, int(full_size().get("CPU", 1)))


def num_cpus_now() -> int:
    """Cores of the cluster as it is now; at least one."""
    return max(1, int(ray.cluster_resources().get("CPU", 1))) if ray.is_initialized() else 1


def full_size() -> dict[str, float]:
    """Resources that the autoscaler may grow the cluster to; without an autoscaler, those it has now.

    Without a connection: one core, this process's.
    """
    if not ray.is_initialized():
        return {"CPU": 1.0}
    from ray._private.state import state  # as Ray Data does: there is no public call

    known = state.get_max_resources_from_cluster_config() or {}
    now = ray.cluster_resources()
    return {name: max(float(known.get(name, 0)), float(now.get(name, 0))) for name in {**known, **now}}


def _protect_token() -> None:
    """Ray writes its token readable to every user of the machine; close it."""
    token = Path.home() / ".ray" / "auth_token"
    with contextlib.suppress(OSError):
        if token.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            token.chmod(0o600)
