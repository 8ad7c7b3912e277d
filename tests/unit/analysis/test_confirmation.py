"""What a confirmation compares, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from affectgrid.analysis.confirmation import ConfirmRun, candidates, conclude, fresh_seeds, num_tried, read_run
from affectgrid.analysis.summary import StudySummary
from affectgrid.metrics import track_moments
from affectgrid.reporting.study.confirmation import confirmation_sentences, confirmation_tables
from affectgrid.reporting.study.tables import failure_rows
from affectgrid.search.space.reading import parse_space
from affectgrid.search.space.schema import SearchSpace
from affectgrid.search.study.records import TrialRecord
from unit.analysis.test_comparison import tracks

FIVE = (1, 2, 3, 4, 5)
LR = {"optim.lr": {"float": [1e-4, 1e-2], "log": True}}


def space(**changes: Any) -> SearchSpace:
    return parse_space({"name": "s", "trials": 4, "space": LR, **changes})


def trial(number: int, objective: float | None, lr: float, **others: Any) -> TrialRecord:
    state = "complete" if objective is not None else "failed"
    fields = {"number": number, "label": f"lr {lr:g}", "state": state, "params": {"optim.lr": lr}}
    return TrialRecord.model_validate(fields | {"objective": objective} | others)


def summary(tmp_path: Path, *trials: TrialRecord) -> StudySummary:
    fields: dict[str, Any] = {"name": "s", "space": {}, "data": "d", "encoders": {}, "num_planned": 4, "wall_s": 1.0}
    return StudySummary(**fields, folder=tmp_path, trials=trials)


def runs(noise: float, *seeds: int, p: float = 0.6) -> list[ConfirmRun]:
    return [
        ConfirmRun(
            seed=seed,
            identity="i",
            best={"val/p": p + 0.01 * number, "epoch": 1.0},
            moments=track_moments(tracks(noise, seed=seed, count=30)).tolist(),
        )
        for number, seed in enumerate(seeds)
    ]


def test_fresh_seeds_are_none_of_the_searchs_and_more_begin_with_fewer():
    five = fresh_seeds(space(), 5)
    assert len(set(five)) == 5
    assert fresh_seeds(space(), 8)[:5] == five
    taken = fresh_seeds(space(seeds=[five[0], five[3], 0]), 5)
    assert len(set(taken)) == 5
    assert not set(taken) & {five[0], five[3], 0}
    assert all(0 <= seed < 2**31 for seed in five)


def test_winner_and_default_with_what_the_search_saw(tmp_path: Path):
    study = summary(tmp_path, trial(0, 0.5, 1e-3), trial(1, 0.7, 3e-3), trial(2, None, 2e-3), trial(3, 0.6, 5e-3))
    default, winner = candidates(space(), study.trials)
    assert (default.role, default.seen, default.values) == ("default", 0.5, {})
    assert (winner.key, winner.seen, winner.values) == ("trial-00001", 0.7, {"optim.lr": 3e-3})
    assert num_tried(space(), study.trials) == 2  # neither the default nor the one that failed


def test_the_default_may_win_and_may_be_missing(tmp_path: Path):
    (only,) = candidates(space(), summary(tmp_path, trial(0, 0.8, 1e-3), trial(1, 0.7, 3e-3)).trials)
    assert (only.role, only.seen) == ("default", 0.8)
    default, _ = candidates(space(), summary(tmp_path, trial(1, 0.7, 3e-3)).trials)
    assert default.seen is None
    assert candidates(space(), summary(tmp_path, trial(0, None, 1e-3)).trials) == []


def test_of_arms_the_one_with_the_best_mean_wins(tmp_path: Path):
    arms = [{"name": "full"}, {"name": "slow", "set": {"optim.lr": 1e-4}}]
    armed = parse_space({"name": "s", "seeds": [0, 1], "arms": arms})
    found = [(0, "full", 0.4), (1, "slow", 0.6), (2, "full", 0.9), (3, "slow", 0.5)]
    trials = [
        trial(
            n, p, 1e-4, arm=arm, params={} if arm == "full" else {"optim.lr": 1e-4}, seeds=[{"seed": 0, "history": []}]
        )
        for n, arm, p in found
    ]
    (only,) = candidates(armed, summary(tmp_path, *trials).trials)
    assert only.seen == pytest.approx(0.65)
    assert num_tried(armed, summary(tmp_path, *trials).trials) == 1


def test_the_luck_of_training_and_the_verdict(tmp_path: Path):
    study = summary(tmp_path, trial(0, 0.5, 1e-3), *(trial(n, 0.6 + 0.01 * n, 1e-3 + 1e-4 * n) for n in range(1, 10)))
    done = {"default": runs(0.5, *FIVE, p=0.45), "trial-00009": runs(0.1, *FIVE, p=0.6)}
    found = conclude(space(), study.trials, done)
    assert found is not None
    assert found.best.training_luck == pytest.approx(0.69 - 0.62)
    assert found.num_tried == 9
    assert found.difference is not None
    assert found.difference.num_comparisons == 9
    assert found.difference.low_corrected > 0
    assert "luck of its training was +0.070" in confirmation_sentences(found)[0]
    assert "about +0.040 is the choice" in confirmation_sentences(found, 0.04)[1]
    assert "even allowing for all that was tried" in confirmation_sentences(found)[1]
    fresh, difference = confirmation_tables(found)
    assert [row[0] for row in fresh.rows] == ["winner", "default"]
    assert fresh.rows[0][fresh.headings.index("confirmed P")] == "0.620 ± 0.016"
    assert difference.headings[2] == "for 9 tried"


def test_what_does_not_differ_is_said_not_to_be_shown(tmp_path: Path):
    study = summary(tmp_path, trial(0, 0.5, 1e-3), trial(1, 0.7, 3e-3))
    found = conclude(space(), study.trials, {"default": runs(0.3, *FIVE), "trial-00001": runs(0.3, *FIVE)})
    assert found is not None
    assert "not shown to be better than the default" in confirmation_sentences(found)[1]


def test_too_few_seeds_give_no_verdict_and_failures_are_kept(tmp_path: Path):
    study = summary(tmp_path, trial(0, 0.5, 1e-3), trial(1, 0.7, 3e-3))
    lost = ConfirmRun(seed=2, identity="i", reason="TRAIN-NAN")
    found = conclude(space(), study.trials, {"default": runs(0.5, 1, 2), "trial-00001": [*runs(0.1, 1), lost]})
    assert found is not None
    assert found.difference is not None
    assert found.difference.num_seeds == 1
    assert "not judged: 1 seeds are too few" in confirmation_sentences(found)[1]
    assert "1 (1 failed)" in confirmation_tables(found)[0].rows[0]
    failed = study.model_copy(update={"confirmation": found})
    assert failed.num_failed == found.num_failed == 1
    assert failure_rows(failed) == [{"trial": "confirm winner", "what": "seed 2", "reason": "TRAIN-NAN"}]
    assert conclude(space(), study.trials, {"default": runs(0.5, 1), "trial-00001": [lost]}) is None


def test_the_summary_keeps_the_confirmation_without_moments(tmp_path: Path):
    study = summary(tmp_path, trial(0, 0.5, 1e-3), trial(1, 0.7, 3e-3))
    found = conclude(space(), study.trials, {"default": runs(0.5, 1), "trial-00001": runs(0.1, 1)})
    study = study.model_copy(update={"confirmation": found})
    content = json.loads(study.write().read_text())
    assert "moments" not in content["confirmation"]["winner"]["runs"][0]
    again = StudySummary.read(tmp_path)
    assert confirmation_tables(again.confirmation) == confirmation_tables(found)
    assert confirmation_sentences(again.confirmation) == confirmation_sentences(found)


def test_a_file_of_other_data_or_half_a_file_is_no_run(tmp_path: Path):
    (run,) = runs(0.1, 1)
    file = tmp_path / "seed-1.json"
    assert read_run(file, "i") is None
    file.write_text(run.model_dump_json())
    assert read_run(file, "i") == run
    assert read_run(file, "another") is None
    file.write_text(run.model_dump_json()[:50])
    assert read_run(file, "i") is None
