"""A patch of Tune's controller for reused actors: an actor that is starting is left to start, and a cluster may grow.

When a trial ends, Tune (2.60) gives its actor to the trial that waits and *aborts* the actor that was starting for that
one. Where trials are shorter than an actor's start (imports: 4 s and more), no second actor ever comes up: the search
runs on one worker, however many the cluster holds. Here the free actor goes to another waiting trial instead. Warming
up processes does not help: Ray gives an actor a new process, never one that has run tasks.

How many trials may wait is a number that Tune takes once, at its start. Here it follows the cluster.

It reaches into private parts of Tune: a release of Ray that it was not tested on runs unpatched.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.tune.execution.tune_controller import TuneController

_log = logging.getLogger(__name__)
_TESTED_RELEASES = ("2.60",)
_MIN_PENDING, _MAX_PENDING = 2, 64
_UPDATE_EVERY_S = 1.0


def max_pending_trials(num_slots: int, num_more: int = 0) -> int:
    """How many trials may wait or start: one for the actor that starts, one for the actor that becomes free.

    Tune's own number is 1, so that a large cluster fills up one start after the other. A proposal that waits was made
    with less knowledge, so at most half as many wait as run, or as many as the cluster may still add: an autoscaler
    adds nodes only for trials that wait.

    Args:
        num_slots: how many trials the cluster holds now.
        num_more: how many more it would hold at its full size.
    """
    return max(_MIN_PENDING, min(_MAX_PENDING, max(num_slots // 2, num_more)))


@contextlib.contextmanager
def reuse_free_actors_only(max_pending: Callable[[], int]) -> Iterator[None]:
    """Within this context Tune's controller never aborts an actor that has its resources and is starting.

    Args:
        max_pending: how many trials may wait or start, called repeatedly during the search.
    """
    if ray.__version__.rpartition(".")[0] not in _TESTED_RELEASES:
        tested = ", ".join(_TESTED_RELEASES)
        _log.warning(
            "Ray %s is not %s: running without the patch, short trials may all run on one worker",
            ray.__version__,
            tested,
        )
        yield
        return
    reuse = TuneController._maybe_reuse_cached_actor
    updated = time.monotonic()

    def hand_over(controller: Any, trial: Any) -> bool:
        if not trial.storage.trial_dir_name:
            trial.init_local_path()  # else only a trial that asked for an actor of its own has a folder to reset to
        return bool(reuse(controller, trial))

    def reuse_unless_starting(controller: Any, trial: Any) -> bool:
        nonlocal updated
        if time.monotonic() - updated > _UPDATE_EVERY_S:
            updated = time.monotonic()
            controller.update_max_pending_trials(max_pending())
        if not _is_starting(controller, trial):
            return hand_over(controller, trial)
        waiting = controller._resources_to_pending_trials[trial.placement_group_factory]
        other = next((one for one in waiting if one is not trial and not _is_starting(controller, one)), None)
        if other is not None and hand_over(controller, other) and other not in controller._staged_trials:
            controller._staged_trials.add(other)  # as Tune does for a trial that gets an actor out of turn
            controller._actor_cache.increase_max(other.placement_group_factory)
        return False

    TuneController._maybe_reuse_cached_actor = reuse_unless_starting
    try:
        yield
    finally:
        TuneController._maybe_reuse_cached_actor = reuse


def _is_starting(controller: Any, trial: Any) -> bool:
    """Whether an actor of its own is being made for the trial, on resources that it holds already."""
    actor = controller._trial_to_actor.get(trial)
    placed = controller._actor_manager._live_actors_to_ray_actors_resources
    return actor is not None and actor in placed and actor not in controller._started_actors
