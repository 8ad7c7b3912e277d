"""What a job works in: a place for results, a Ray cluster, and the experiment log where it keeps one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator

from affectgrid.data.workspace import Workspace
from affectgrid.distributed.cluster import connect
from affectgrid.distributed.preflight import check_nodes
from affectgrid.tracking import Tracker, open_tracker

EXPERIMENT = "affectgrid"


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
