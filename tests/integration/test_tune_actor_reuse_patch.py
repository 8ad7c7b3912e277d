"""The patch of Tune's controller does what it is there for, and stays away from a Ray that it does not know."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from ray.tune.execution.tune_controller import TuneController

from affectgrid.distributed.tune.tune_actor_reuse_patch import reuse_free_actors_only

START_S = 4.0


class Short(tune.Trainable):
    """A trial of a tenth of a second. The first actor is up at once, each other one START_S later, as by imports."""

    def setup(self, config: dict[str, Any]) -> None:
        try:
            Path(config["first"]).touch(exist_ok=False)
        except FileExistsError:
            time.sleep(START_S)

    def step(self) -> dict[str, Any]:
        time.sleep(0.1)
        return {"process": os.getpid(), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True


def processes(folder: Path) -> set[int]:
    """Those that worked on trials that last, one after the other, three times as long as an actor's start."""
    tuner = tune.Tuner(
        tune.with_resources(Short, {"CPU": 1}),
        param_space={"first": str(folder / "first")},
        tune_config=tune.TuneConfig(num_samples=round(3 * START_S / 0.1), reuse_actors=True, max_concurrent_trials=2),
        run_config=tune.RunConfig(name="short", storage_path=str(folder), verbose=0),
    )
    return {result.metrics["process"] for result in tuner.fit()}


def test_both_workers_work_on_trials_that_are_shorter_than_a_start(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_MAX_PENDING_TRIALS_PG", "2")
    with reuse_free_actors_only(lambda: 2):
        assert len(processes(tmp_path)) == 2


def test_an_unknown_ray_runs_unpatched_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own = TuneController._maybe_reuse_cached_actor
    with reuse_free_actors_only(lambda: 2):
        assert TuneController._maybe_reuse_cached_actor is not own
    monkeypatch.setattr(ray, "__version__", "2.61.0")
    with caplog.at_level(logging.WARNING), reuse_free_actors_only(lambda: 2):
        assert TuneController._maybe_reuse_cached_actor is own
    assert "Ray 2.61.0 is not 2.60" in caplog.text
