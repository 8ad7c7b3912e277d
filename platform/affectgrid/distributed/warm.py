"""Worker processes that have imported everything before the first trial asks for one."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import ray
from ray.tune.execution.class_cache import DEFAULT_ENV_VARS, ENV_VARS_TO_PROPAGATE

_MOST = 256  # tasks; a larger cluster warms the rest by its first trials
_PATIENCE_S = 60.0


class WarmUp:
    """Starts as many processes as trials fit, side by side, while the driver prepares the study.

    Ray hands an idle process of the same job to an actor that is to start, so that a trial's actor is up at once. It
    is more than comfort: when a trial ends, Tune gives its actor to the waiting trial and *aborts* the actor that was
    starting for it. Where trials are shorter than the imports (4 s and more), the second actor never comes up, and the
    search runs on one worker, however many there are.
    """

    def __init__(self, bundle: Mapping[str, float], *, most: int | None = None) -> None:
        slots = num_slots(bundle)
        task = _import_all.options(
            num_cpus=bundle.get("CPU", 0), num_gpus=bundle.get("GPU", 0), max_retries=0, runtime_env=trial_environment()
        )
        self._tasks = [task.remote() for _ in range(min(_MOST, slots, most or slots))]

    def wait(self) -> None:
        """Until they are there; a cluster that is busy with other work is not waited for for ever."""
        # Never cancelled: Ray 2.60 ends the driver ("Tried to complete task that was not pending") where a task
        # completes while it is being cancelled. One that is late imports beside the first trials.
        ray.wait(self._tasks, num_returns=len(self._tasks), timeout=_PATIENCE_S)


def trial_environment() -> dict[str, Any]:
    """The runtime environment of Tune's actors: Ray hands over a process only where the environments are the same."""
    forwarded = {name: os.environ[name] for name in ENV_VARS_TO_PROPAGATE if name in os.environ}
    return {"env_vars": {**DEFAULT_ENV_VARS, **forwarded}}


def num_slots(bundle: Mapping[str, float]) -> int:
    """How many trials of this size the cluster holds now; at least one."""
    there = ray.cluster_resources()
    fits = [math.floor(float(there.get(name, 0)) / share + 1e-6) for name, share in bundle.items() if share]
    return max(1, min(fits))


@ray.remote  # type: ignore[untyped-decorator]  # Ray is not typed
def _import_all() -> Any:
    import torch

    import affectgrid.distributed.trial  # noqa: F401  # with torch, Ray Tune and the model

    torch.set_num_threads(1)
    return torch.zeros(1).sum().item()  # the first operation loads code too
