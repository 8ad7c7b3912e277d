"""What a job works in: a place for results, a Ray cluster, and the experiment log where it keeps one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from affectgrid.data.workspace import Workspace
from affectgrid.distributed.cluster import connect
from affectgrid.distributed.preflight import check_nodes
from affectgrid.storage import Storage
from affectgrid.tracking import Tracker, open_tracker
from affectgrid.tracking.models import is_model_address
from affectgrid.training.inference.ensemble import Ensemble, load_ensemble

EXPERIMENT = "affectgrid"


def open_models(models: Sequence[str], out: str) -> Ensemble:
    """Packages, one ensemble, or models of MLflow (``models:/NAME@champion``); by default the newest study's best.

    Raises as `load_ensemble` does; ConfigError (CFG-MODEL) without a study, and TrackingError where MLflow has none.
    """
    workspace, places = Workspace.open(out), list[Storage | Path | str](models)
    if any(map(is_model_address, models)):
        tracker = open_tracker(workspace.tracking_uri, EXPERIMENT, artifacts=workspace.artifacts)
        places = [tracker.fetch_model(model) if is_model_address(model) else model for model in models]
    return load_ensemble(places or [workspace.newest_model()])


@dataclasses.dataclass(frozen=True)
class Session:
    """A writable workspace, and an experiment log that answers, before any work."""

    workspace: Workspace
    tracker: Tracker


@contextlib.contextmanager
def connected(out: str, address: str | None = None, *, alone: bool = False) -> Iterator[Workspace]:
    """Open the workspace, then join or start the cluster. Raises ConfigError: CFG-STORAGE, CFG-SHARED, CFG-CUDA.

    With `alone` this process does its work itself, unless `address` or ``RAY_ADDRESS`` names a cluster: a private one
    takes longer to start than a short video to encode.
    """
    workspace = Workspace.open(out)
    if alone and address is None and "RAY_ADDRESS" not in os.environ:
        yield workspace
        return
    with connect(address):
        check_nodes(workspace.root)
        yield workspace


@contextlib.contextmanager
def tracked(out: str, address: str | None = None) -> Iterator[Session]:
    """As `connected`, with the experiment log. Raises TrackingError too, before Ray starts."""
    workspace = Workspace.open(out)
    tracker = open_tracker(workspace.tracking_uri, EXPERIMENT, artifacts=workspace.artifacts)
    with connect(address):
        check_nodes(workspace.root)
        yield Session(workspace, tracker)
