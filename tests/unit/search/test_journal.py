"""The journal of a study after a kill in the middle of a change."""

from __future__ import annotations

import time
from pathlib import Path

import optuna
import pytest

from affectgrid.search.study.journal import open_journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    study = optuna.create_study(study_name="s", storage=open_journal(tmp_path / "study.journal"))
    study.enqueue_trial({"lr": 0.1})
    study.tell(study.ask(), 1.0)
    return tmp_path / "study.journal"


def load(path: Path) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=open_journal(path))


def test_what_was_told_is_read_again(path: Path):
    assert [trial.value for trial in load(path).trials] == [1.0]


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_half_a_last_line_is_dropped_and_the_next_change_is_readable(path: Path, kept: int):
    whole = path.read_bytes()
    load(path).add_trial(optuna.trial.create_trial(value=2.0))
    added = path.read_bytes()[len(whole) :]
    assert added.endswith(b"\n")
    path.write_bytes(whole + added[:kept])
    study = load(path)
    assert path.read_bytes() == whole
    study.add_trial(optuna.trial.create_trial(value=3.0))
    assert [trial.value for trial in load(path).trials] == [1.0, 3.0]


def test_the_lock_of_a_killed_process_is_not_waited_for(path: Path):
    path.with_name(f"{path.name}.lock").symlink_to(path)
    began = time.monotonic()
    load(path).add_trial(optuna.trial.create_trial(value=2.0))
    assert time.monotonic() - began < 20  # Optuna would wait for 30 s
    assert len(load(path).trials) == 2
