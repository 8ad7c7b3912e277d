"""A kill costs a minute, also where an epoch takes longer than that."""

from __future__ import annotations

import pytest
import ray.train
import torch

from affectgrid.distributed.train import workers as train_workers
from affectgrid.distributed.tune import trial
from affectgrid.storage import Storage
from affectgrid.storage.working_copy import WorkingCopy
from affectgrid.training.checkpoint import CheckpointFolder, SaveClock
from affectgrid.training.workers import SINGLE, Workers
from support.planted import planted_data, small_config


class KilledError(Exception):
    pass


def test_the_clock_is_due_after_a_minute_and_again_a_minute_after_the_save():
    now = 100.0
    clock = SaveClock(clock=lambda: now)
    assert not clock()
    now = 160.0
    assert clock()
    clock.saved()
    assert not clock()
    now = 219.0
    assert not clock()
    now = 220.0
    assert clock()


def test_a_killed_trial_goes_on_from_the_middle_of_its_epoch(tmp_path, monkeypatch):
    data, config = planted_data(), small_config(optim__epochs=2)
    files = WorkingCopy(Storage(tmp_path))
    expected = trial.train_in_process(config, data, files, tmp_path / "whole", on_epoch=lambda _: None)
    monkeypatch.setattr(trial, "SaveClock", lambda: SaveClock(every_s=0.0))
    kept, keep = [], CheckpointFolder.keep

    def killed_after_two(folder, metrics, save):
        if len(kept) == 2:
            raise KilledError
        keep(folder, metrics, save)
        kept.append((metrics["epoch"], metrics.get("step")))

    monkeypatch.setattr(CheckpointFolder, "keep", killed_after_two)
    package, epochs = tmp_path / "package", []
    with pytest.raises(KilledError):
        trial.train_in_process(config, data, files, package, on_epoch=epochs.append)
    assert kept == [(0, 1), (0, 2)]
    assert not epochs  # no epoch was reported, and none is lost
    monkeypatch.setattr(CheckpointFolder, "keep", lambda *_: None)
    resumed = trial.train_in_process(config, data, files, package, on_epoch=epochs.append)
    assert resumed.history == expected.history
    assert [metrics["epoch"] for metrics in epochs] == [1, 2]


@pytest.mark.parametrize("due", [0, 1])
def test_all_workers_follow_the_clock_of_the_first(due, monkeypatch):
    monkeypatch.setattr(ray.train, "get_preemption_info", lambda: None)
    watch = train_workers.SaveWatch(Workers(rank=1, count=2, gather=lambda own: [torch.full_like(own, due), own]))
    looks = [watch() for _ in range(16)]
    assert [number for number, answer in enumerate(looks, 1) if answer] == ([8, 16] if due else [])


def test_a_warning_is_answered_once(monkeypatch):
    class Info:
        preempted_node_ids = ("leaving",)

    monkeypatch.setattr(ray.train, "get_preemption_info", Info)
    watch = train_workers.SaveWatch(SINGLE)
    assert [number for number in range(1, 25) if watch()] == [8]
