"""The study's memory: one truth, whatever the moment of the kill."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from affectgrid.errors import ConfigError
from affectgrid.search.space.reading import parse_space
from affectgrid.search.space.schema import SearchSpace
from affectgrid.search.study.journal import open_journal
from affectgrid.search.study.ledger import Ledger, differences, open_ledger
from affectgrid.search.study.records import SeedRecord, TrialRecord
from affectgrid.search.study.sampling import propose

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
        interrupted_trials = ledger.interrupted_trials()
        assert [orphan.number for orphan in interrupted_trials] == [0, number]
        assert propose(interrupted_trials[1], space=SPACE) == values
        for orphan in interrupted_trials:
            ledger.finish(record(orphan.number))
        assert states(ledger) == [TrialState.COMPLETE] * 2
        assert ledger.interrupted_trials() == []


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
        assert ledger.interrupted_trials() == []


def test_a_kill_while_the_database_is_made_starts_afresh(tmp_path: Path):
    (tmp_path / "study.journal.partial").write_bytes(b"half a journal")
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
        ledger.finish(record(trial.number, 0.4, state="pruned"))
        assert states(ledger) == [TrialState.PRUNED]
        (told,) = ledger.study.trials
        assert (told.value, told.intermediate_values) == (0.4, {1: 0.4})


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
    with open_ledger(tmp_path, SPACE.model_copy(update={"trials": 9}), data="d") as ledger:
        assert ledger.num_left == 9


def test_an_extension_is_added_once_however_often_its_session_is_killed(tmp_path: Path):
    def session(*, killed: bool = False, trials: int = 9) -> int:
        with open_ledger(tmp_path, SPACE, data="d") as ledger:
            ledger.extend(3)
            for _ in range(min(trials, ledger.num_left or 0)):
                ledger.finish(record(ask(ledger)[0]))
            if not killed:
                ledger.settle()
            return len(ledger.records)

    assert session(killed=True, trials=2) == 2  # not done: nothing is added
    assert session() == 4
    assert session(killed=True, trials=1) == 5  # done: three more
    assert session(killed=True) == 7  # killed after the last trial, before the summary
    assert session() == 7
    assert session() == 10  # done again
    with open_ledger(tmp_path, SPACE, data="d") as ledger:  # without --extend
        assert (ledger.num_planned, ledger.num_left, ledger.done) == (10, 0, True)


@pytest.mark.parametrize(
    ("content", "limit"),
    [
        ({"arms": [{"name": "a"}]}, "its list of arms"),
        ({"space": {"optim.epochs": {"int": [1, 1]}}, "sampler": "grid"}, "its grid"),
    ],
)
def test_what_ends_by_itself_cannot_be_extended(tmp_path: Path, content: dict[str, object], limit: str):
    with open_ledger(tmp_path, parse_space({"name": "t", **content}), data="d") as ledger:
        ledger.finish(record(ledger.study.ask().number))
        with pytest.raises(ConfigError, match=f"STUDY-EXTEND .*{limit}"):
            ledger.extend(1)


def timed(**others: object) -> SearchSpace:
    return parse_space({"name": "t", "space": {"optim.lr": {"float": [1e-4, 1e-2], "log": True}}, **others})


def test_a_time_budget_counts_the_trials_of_all_sessions_and_no_gaps(tmp_path: Path):
    space = timed(time_budget="100s")
    with open_ledger(tmp_path, space, data="d") as ledger:
        assert (ledger.num_planned, ledger.num_left, ledger.time_left_s, ledger.done) == (None, None, 100, False)
        ledger.finish(record(ask(ledger)[0], started="2026-01-01T10:00:00+00:00", duration_s=30.0))
        ledger.finish(record(ask(ledger)[0], started="2026-01-01T11:00:00+00:00", duration_s=50.0))
    with open_ledger(tmp_path, space, data="d") as ledger:
        assert ledger.time_left_s == 20
        ledger.finish(record(ask(ledger)[0], started="2026-01-01T12:00:00+00:00", duration_s=50.0))
    with open_ledger(tmp_path, space, data="d") as ledger:
        assert (ledger.time_left_s, ledger.out_of_time, ledger.done) == (0, True, True)
        ask(ledger)  # as if it had been interrupted
        assert not ledger.done
        ledger.finish(record(3))
        with pytest.raises(ConfigError, match="STUDY-EXTEND"):
            ledger.extend(1)
    with open_ledger(tmp_path, timed(time_budget="200s"), data="d") as ledger:
        assert ledger.time_left_s == 70


def test_a_budget_that_was_spent_stays_spent(tmp_path: Path):
    with open_ledger(tmp_path, timed(time_budget="1h", trials=5), data="d") as ledger:
        ledger.start_clock()
        assert 0 < (ledger.time_left_s or 0) <= 3600
        ledger.note_time_spent()  # in this session; its trials' own times say a little less
    with open_ledger(tmp_path, timed(time_budget="1h", trials=5), data="d") as ledger:
        assert ledger.done
    with open_ledger(tmp_path, timed(time_budget="2h", trials=5), data="d") as ledger:
        assert (ledger.time_left_s, ledger.num_left, ledger.done) == (3600, 5, False)


def test_several_objectives_reach_the_database(tmp_path: Path):
    space = timed(objective=[{"maximize": "val/p_best"}, {"minimize": "parameters"}, {"minimize": "latency_ms"}])
    with open_ledger(tmp_path, space, data="d") as ledger:
        costs = {"parameters": 12.0, "latency_ms": 0.5}
        ledger.finish(record(ask(ledger)[0], 0.25, costs=costs))
        kept = ledger.finish(record(ask(ledger)[0], 0.5, costs={"parameters": 3.0}))
        assert (kept.state, kept.reason) == ("failed", "latency_ms is None")
        stored = ledger.study.get_trials(deepcopy=False)[:2]
        assert [trial.values for trial in stored] == [[0.25, 12.0, 0.5], None]
        assert [way.name for way in ledger.study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="STUDY-STORAGE"), open_ledger(tmp_path / "file" / "x", SPACE, data="d"):
        pass


def test_two_studies_of_one_storage_know_nothing_of_each_other(tmp_path: Path):
    for name in ("a", "b"):
        space = SPACE.model_copy(update={"name": name})
        with open_ledger(tmp_path / name, space, data="d") as ledger:
            ledger.finish(record(ask(ledger)[0]))
    assert optuna.get_all_study_names(open_journal(tmp_path / "b" / "study.journal")) == ["b"]
    with open_ledger(tmp_path / "b", SPACE.model_copy(update={"name": "b"}), data="d") as ledger:
        assert ledger.num_asked == 1


def test_differences_name_the_leaf():
    before, after = {"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1, "c": 3}, "e": True}
    assert differences(before, after) == ["a.c: 2 is now 3", "d: [1] is now absent", "e: absent is now true"]
    assert differences(before, before) == []
