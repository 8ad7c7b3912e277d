"""The resources that a trial takes, and how many trials the cluster holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import ray
from pydantic import Field

from affectgrid.distributed import cluster
from affectgrid.distributed.tune.tune_actor_reuse_patch import max_pending_trials
from affectgrid.settings import Settings

_MAX_TRIALS_PER_GPU = 4


class TrialResources(Settings):
    """What one trial takes. `gpus` None: a share of a GPU where the cluster has one, else none.

    With several `workers` a trial is trained by Ray Train: each takes `cpus`, and a whole GPU where there are GPUs.
    """

    cpus: float = 1.0
    gpus: float | None = None
    workers: int = Field(1, gt=0)


def bundle(resources: TrialResources) -> dict[str, float]:
    """What a trial takes, as Ray counts it; its share of a GPU is its share of the cores, at least a quarter."""
    gpus = resources.gpus
    if gpus is None:
        share = cluster.num_gpus() * resources.cpus / cluster.num_cpus()
        gpus = min(1.0, max(share, 1 / _MAX_TRIALS_PER_GPU)) if share else 0.0
    return {"CPU": resources.cpus, "GPU": gpus} if gpus else {"CPU": resources.cpus}


def coordinator() -> dict[str, float]:
    """What the trial's own actor takes where Ray Train runs its workers: almost nothing; they get the cores."""
    return {"CPU": 0, "memory": 64 * 2**20}


def max_concurrent_trials(resources: TrialResources, asked: int | None) -> Callable[[], float]:
    """How many trials may be under way, asked before each proposal."""
    if asked is not None:
        return lambda: asked
    return (lambda: _num_nested(resources)) if resources.workers > 1 else (lambda: math.inf)


def max_pending(trial: Mapping[str, float]) -> int:
    """How many trials, each of which takes `trial`, may be pending on the cluster as it is and as it may become."""
    now = _num_slots(trial)
    return max_pending_trials(now, _num_slots(trial, cluster.full_size()) - now)


def _num_nested(resources: TrialResources) -> int:
    """Trials of several workers that the cluster holds now. More would hold their place and wait for each other."""
    worker = {"CPU": resources.cpus} | ({"GPU": 1.0} if cluster.num_gpus() else {})
    return max(1, _num_slots(worker) // resources.workers)


def _num_slots(bundle: Mapping[str, float], there: Mapping[str, float] | None = None) -> int:
    """How many such bundles fit into the cluster as it is now, or into `there`; at least one."""
    there = ray.cluster_resources() if there is None else there
    fits = [math.floor(float(there.get(name, 0)) / share + 1e-6) for name, share in bundle.items() if share]
    return max(1, min(fits))
