"""The study's memory: one truth, whatever the moment of the kill."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from affectgrid.errors import ConfigError
from affectgrid.search.ledger import Ledger, differences, open_ledger
from affectgrid.search.optuna_glue import propose
from affectgrid.search.space import parse_space
from affectgrid.search.summary import SeedRecord, TrialRecord

SPACE = parse_space(
    {"name": "t", "trials": 4, "space": {"optim.lr": {"float": [1e-4, 1e-2], "log": True}}, "points": [{}]}
)


def ask(ledger: Ledger) -> tuple[int, dict[str, float]]:
    trial = ledger.study.ask()
    return trial.number, propose(trial, space=SPACE)


def record(number: int, objective: float = 0.5, **others: object) -> TrialRecord:
    history = ({"val/p": objective, "epoch": 1.0},)
    fields = {
        "state": "complete",
        "params": {},
        "objective": objective,
        "seeds": (SeedRecord(seed=0, history=history),),
    }
    return TrialRecord.model_validate({"number": number, "label": "", **fields, **others})


def states(ledger: Ledger) -> list[TrialState]:
    return [trial.state for trial in ledger.study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]


def test_what_ended_is_there_after_reopening(tmp_path: Path):
    with open_ledger(tmp_path, SPACE, data="d") as ledger:
        number, values = ask(ledger)
        assert values == {"optim.lr": 1e-3}  # the point comes first
        ledger.finish(record(number, 0.25))
    with open_ledger(tmp_path, SPACE, data="d") as ledger:
        assert (ledger.num_left, ledger.num_asked) == (3, 1)
        assert ledger.records[0] == record(0, 0.25)
        assert ledger.study.best_value == 0.25
        assert ask(ledger)[0] == 1  # the point is not tried again


def test_an_interrupted_trial_goes_on_as_itself(tmp_path: Path):
    with open_ledger(tmp_path, SPACE, data="d") as ledger:
        ask(ledger)
        number, values = ask(ledger)
    with open_ledger(tmp_path, SPACE, data="d") as ledger:
        orphans = ledger.orphans()
        assert [orphan.number for orphan in orphans] == [0, number]
        assert propose(orphans[1], space=SPACE) == values
        for orphan in orphans:
            ledger.finish(record(orphan.number))
        assert states(ledger) == [TrialState.COMPLETE] * 2
        assert ledger.orphans() == []


def test_a_kill_between_file_and_database_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with open_ledger(tmp_path, SPACE, data="d") as ledger:
        number, _ = ask(ledger)
        monkeypatch.setattr(Ledger, "_tell", lambda *_: None)  # the process dies before it tells
        ledger.finish(record(number, 0.75))
        assert states(ledger) == [TrialState.RUNNING]
    monkeypatch.undo()
    with open_ledger(tmp_path, SPACE, data="d") as ledger:
        assert states(ledger) == [TrialState.COMPLETE]
        assert ledger.study.best_value == 0.75
        assert ledger.orphans() == []


def test_a_kill_while_the_database_is_made_starts_afresh(tmp_path: Path):
    (tmp_path / "study.db.partial").write_bytes(b"half a database")
    with open_ledger(tmp_path, SPACE, data="d") as ledger:
        assert ask(ledger)[1] == {"optim.lr": 1e-3}


@pytest.mark.parametrize("objective", [math.nan, math.inf, None])
def test_an_objective_that_is_no_number_is_a_failure(tmp_path: Path, objective: float | None):
    with open_ledger(tmp_path, SPACE, data="d") as ledger:
        number, _ = ask(ledger)
        kept = ledger.finish(record(number).model_copy(update={"objective": objective}))
        assert (kept.state, kept.objective, kept.reason) == ("failed", None, f"the objective is {objective}")
        assert states(ledger) == [TrialState.FAIL]
        assert ledger.study.get_trials()[0].user_attrs == {"reason": kept.reason}


def test_a_second_end_changes_nothing(tmp_path: Path):
    with open_ledger(tmp_path, SPACE, data="d") as ledger:
        number, _ = ask(ledger)
        ledger.finish(record(number, 0.5))
        assert ledger.finish(record(number, 0.9)).objective == 0.5
        assert ledger.study.best_value == 0.5


def test_a_pruned_trial_is_no_complete_one(tmp_path: Path):
    with open_ledger(tmp_path, SPACE, data="d") as ledger:
        trial = ledger.study.ask()
        trial.report(0.4, 1)
        ledger.finish(record(trial.number, 0.4, state="pruned"))
        assert states(ledger) == [TrialState.PRUNED]


def test_another_process_is_kept_out(tmp_path: Path):
    with open_ledger(tmp_path, SPACE, data="d"), pytest.raises(ConfigError, match="STUDY-BUSY"):
        open_ledger(tmp_path, SPACE, data="d").__enter__()
    with open_ledger(tmp_path, SPACE, data="d"):
        pass


def test_a_changed_space_is_refused_with_the_difference(tmp_path: Path):
    changed = parse_space({"name": "t", "space": {"optim.lr": {"float": [1e-4, 1e-1], "log": True}}, "seeds": [1]})
    with open_ledger(tmp_path, SPACE, data="d"):
        pass
    with pytest.raises(ConfigError) as caught, open_ledger(tmp_path, changed, data="e"):
        pass
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert 'data: "d" is now "e"' in text
    assert "space.optim.lr.float: [0.0001, 0.01] is now [0.0001, 0.1]" in text
    assert "seeds: [0] is now [1]" in text
    assert "use another name" in text


def test_more_trials_may_be_asked_of_a_study(tmp_path: Path):
    with open_ledger(tmp_path, SPACE, data="d") as ledger:
        assert ledger.num_left == 4
    with open_ledger(tmp_path, SPACE.with_overrides(trials=9), data="d") as ledger:
        assert ledger.num_left == 9


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="STUDY-STORAGE"), open_ledger(tmp_path / "file" / "x", SPACE, data="d"):
        pass


def test_two_studies_of_one_storage_know_nothing_of_each_other(tmp_path: Path):
    for name in ("a", "b"):
        space = SPACE.with_overrides(name=name)
        with open_ledger(tmp_path / name, space, data="d") as ledger:
            ledger.finish(record(ask(ledger)[0]))
    assert optuna.get_all_study_names(f"sqlite:///{tmp_path}/b/study.db") == ["b"]
    with open_ledger(tmp_path / "b", SPACE.with_overrides(name="b"), data="d") as ledger:
        assert ledger.num_asked == 1


def test_differences_name_the_leaf():
    before, after = {"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1, "c": 3}, "e": True}
    assert differences(before, after) == ["a.c: 2 is now 3", "d: [1] is now absent", "e: absent is now true"]
    assert differences(before, before) == []
