"""Tune with reused actors, mended: an actor that is starting is left to start.

When a trial ends, Tune (2.60) gives its actor to the trial that waits and *aborts* the actor that was starting for that
one. Where trials are shorter than an actor's start (imports: 4 s and more), no second actor ever comes up: the search
runs on one worker, however many the cluster holds. Here the free actor goes to another waiting trial instead. Warm
processes are no way out: Ray gives an actor a new process, never one that has run tasks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ray.tune.execution.tune_controller import TuneController

_FEWEST_AHEAD, _MOST_AHEAD = 2, 64


def proposals_ahead(num_slots: int) -> int:
    """How many trials may wait or start: one for the actor that starts, one for the actor that becomes free.

    Tune's own number is 1, so that a large cluster fills one start after the other. Each proposal that waits was made
    knowing less, so there are no more of them than half of what runs.
    """
    return max(_FEWEST_AHEAD, min(_MOST_AHEAD, num_slots // 2))


@contextlib.contextmanager
def starting_actors_kept() -> Iterator[None]:
    """While this lasts, Tune's controller aborts no actor that has its resources and is starting."""
    reuse = TuneController._maybe_reuse_cached_actor

    def reuse_with_patience(controller: Any, trial: Any) -> bool:
        if not _is_starting(controller, trial):
            return bool(reuse(controller, trial))
        waiting = controller._resources_to_pending_trials[trial.placement_group_factory]
        other = next((one for one in waiting if one is not trial and not _is_starting(controller, one)), None)
        if other is not None and reuse(controller, other) and other not in controller._staged_trials:
            controller._staged_trials.add(other)  # as Tune does for a trial that gets an actor out of turn
            controller._actor_cache.increase_max(other.placement_group_factory)
        return False

    TuneController._maybe_reuse_cached_actor = reuse_with_patience
    try:
        yield
    finally:
        TuneController._maybe_reuse_cached_actor = reuse


def _is_starting(controller: Any, trial: Any) -> bool:
    """Whether an actor of its own is being made for the trial, on resources that it holds already."""
    actor = controller._trial_to_actor.get(trial)
    placed = controller._actor_manager._live_actors_to_ray_actors_resources
    return actor is not None and actor in placed and actor not in controller._started_actors
