"""The summary of a study: who is best, when it is done, what is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from affectgrid.analysis.summary import StudySummary
from affectgrid.search.space.objective import Goal
from affectgrid.search.study.records import SeedRecord, TrialRecord, front, settings
from support.waits import waits_s


def seed(number: int, *scores: tuple[float, float]) -> SeedRecord:
    """A run whose epochs have these CCCs."""
    rows = [
        {"epoch": float(epoch), "val/ccc_valence": v, "val/ccc_arousal": a, "val/p": (v + a) / 2, "train/loss": 1.0}
        for epoch, (v, a) in enumerate(scores, 1)
    ]
    return SeedRecord(seed=number, history=tuple(rows))


def trial(number: int, p: float | None, state: str = "complete", **others: Any) -> TrialRecord:
    seeds = () if p is None else (seed(0, (p - 0.1, p + 0.1)),)
    params = {"optim.lr": 0.001 * number, "prompt.mode": "fixed"}
    fields = {"number": number, "label": f"l{number}", "state": state, "params": params, "objective": p, "seeds": seeds}
    return TrialRecord.model_validate({**fields, **others})


def study(tmp_path: Path, *trials: TrialRecord, **others: Any) -> StudySummary:
    fields: dict[str, Any] = {"name": "s", "space": {}, "data": "d", "encoders": {}, "num_planned": 4, "wall_s": 12.3}
    return StudySummary(**{**fields, "folder": tmp_path, "trials": trials, **others})


def test_the_best_epoch_is_the_first_with_the_highest_p():
    run = seed(0, (0.1, 0.3), (0.5, 0.5), (0.6, 0.4), (0.2, 0.2))
    assert run.best["epoch"] == 2


def test_a_score_is_the_mean_over_the_seeds_best_epochs():
    record = trial(0, 0.5, seeds=(seed(0, (0.2, 0.4), (0.6, 0.8)), seed(1, (0.4, 0.4))))
    assert record.score("val/p") == pytest.approx((0.7 + 0.4) / 2)
    assert record.score("val/ccc_valence") == pytest.approx(0.5)


def test_the_best_is_complete_and_the_earliest_of_equals(tmp_path: Path):
    summary = study(
        tmp_path, trial(0, 0.4), trial(1, 0.6), trial(2, 0.6), trial(3, 0.9, "pruned"), trial(4, None, "failed")
    )
    assert summary.best == summary.trials[1]
    assert [record.number for record in summary.complete] == [1, 2, 0]
    assert len(summary.failed) == len(summary.pruned) == 1
    assert study(tmp_path, trial(0, None, "failed")).best is None


TWO = (Goal(maximize="val/p_best"), Goal(minimize="parameters"))


def test_a_front_is_kept_with_its_costs(tmp_path: Path):
    sizes = {0: 100.0, 1: 100.0, 2: 40.0, 3: 10.0}
    trials = [trial(n, p, costs={"parameters": sizes[n]}) for n, p in enumerate([0.5, 0.6, 0.3])]
    trials.append(trial(3, 0.9, "pruned", costs={"parameters": 10.0}))
    summary = study(tmp_path, *trials, pareto=front(trials, TWO))
    assert [(point.trial, point.values) for point in summary.pareto] == [
        (1, {"val/p_best": 0.6, "parameters": 100.0}),
        (2, {"val/p_best": 0.3, "parameters": 40.0}),
    ]
    assert summary.cost_points() == {"parameters": {0: (100.0, 0.5), 1: (100.0, 0.6), 2: (40.0, 0.3)}}
    kept = json.loads(summary.write().read_text())["pareto"]
    assert kept[1] == {"trial": 2, "values": {"val/p_best": 0.3, "parameters": 40.0}}
    assert front(trials, TWO[:1]) == ()
    assert study(tmp_path, trial(0, 0.5)).cost_points() == {}


def test_a_study_is_finished_by_its_trials_or_by_its_time_budget(tmp_path: Path):
    assert study(tmp_path, *(trial(number, 0.5) for number in range(4))).finished
    part = study(tmp_path, trial(0, 0.5), trial(1, None, "failed"))
    assert not part.finished
    assert part.num_failed == 1
    assert study(tmp_path, trial(0, 0.5), out_of_time=True).finished


def test_waits_are_between_neighbours_of_one_worker():
    ran = [("a", 100.0, 2.0), ("b", 101.0, 5.0), ("a", 102.25, 3.0), ("a", 106.0, 1.0), ("", 0.0, 9.0)]
    trials = [
        trial(number, 0.5, worker=worker, began_at=began, duration_s=duration)
        for number, (worker, began, duration) in enumerate(ran)
    ]
    assert waits_s(trials) == [0.25, 0.75]


def test_settings_are_short_and_tell_apart():
    params = {"optim.lr": 0.00123456, "model.streams": ["visual", "audio"], "a.depth": 1, "b.depth": 2}
    assert settings(params) == "lr 0.00123, streams visual+audio, a.depth 1, b.depth 2"
    assert settings(params, ["optim.lr", "absent"]) == "lr 0.00123"


def test_the_file_holds_the_study_without_its_histories(tmp_path: Path):
    summary = study(tmp_path, trial(0, 0.5))
    content = json.loads(summary.write().read_text())
    assert content["trials"][0]["objective"] == 0.5
    assert "history" not in content["trials"][0]["seeds"][0]
    assert not list(tmp_path.glob("*.partial"))
