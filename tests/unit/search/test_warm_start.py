"""What a study takes over from an older one: compatible trials, for its sampler alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from affectgrid.errors import ConfigError
from affectgrid.reporting.study.live import opening_notes
from affectgrid.search.space.reading import parse_space
from affectgrid.search.space.schema import SearchSpace
from affectgrid.search.study.journal import open_journal
from affectgrid.search.study.ledger import open_ledger
from affectgrid.search.study.records import TrialRecord
from affectgrid.search.study.sampling import propose
from affectgrid.search.study.warm_start import WARM_START, find_study, read_prior_trials
from affectgrid.storage import Storage

LR = {"optim.lr": {"float": [1e-4, 1e-2], "log": True}}
MODE = {"prompt.mode": {"choice": ["ensemble", "none"]}}
WEIGHT = {"prompt.weight": {"float": [0.0, 1.0], "when": "prompt.mode != none"}}


def space_of(dimensions: dict[str, Any], name: str = "new", **others: Any) -> SearchSpace:
    return parse_space({"name": name, "space": dimensions, "trials": 4, **others})


def make_old(folder: Path, params: list[dict[str, Any]], space: SearchSpace | None = None, **others: Any) -> Path:
    """A study in which every trial has ended."""
    with open_ledger(folder / "old", space or space_of(LR, "old"), data="d") as ledger:
        for number, values in enumerate(params):
            ledger.study.ask()
            fields = {"number": number, "label": "", "state": "complete", "objective": 0.1 * number, "params": values}
            ledger.finish(TrialRecord.model_validate(fields | others))
    return folder / "old"


def test_compatible_values_are_taken_and_the_others_counted_by_reason(tmp_path: Path):
    wide = space_of({"optim.lr": {"float": [1e-5, 1.0], "log": True}}, "old", constants={"optim.epochs": 3})
    old = make_old(tmp_path, [{"optim.lr": value} for value in (1e-3, 1e-5, 0.5, 2e-3)], wide)
    prior_trials = read_prior_trials(old, space_of(LR | MODE | WEIGHT), data="other")
    # What was fixed there and is searched here counts with its value of then: the defaults.
    fixed = {"prompt.mode": "ensemble", "prompt.weight": 0.5}
    assert [trial.params for trial in prior_trials.trials] == [{"optim.lr": 1e-3} | fixed, {"optim.lr": 2e-3} | fixed]
    assert [trial.value for trial in prior_trials.trials] == [0.0, pytest.approx(0.3)]
    assert [trial.user_attrs[WARM_START] for trial in prior_trials.trials] == [
        {"study": "old", "number": 0},
        {"study": "old", "number": 3},
    ]
    assert opening_notes(space_of(LR), prior_trials) == [
        "warm start from old: 2 of 4 trials are compatible; 2 are not (optim.lr is outside the space: 2)."
        " Different there: optim.epochs, the data"
    ]


def test_conditions_of_this_space_decide_what_a_prior_trial_holds(tmp_path: Path):
    params = [{"optim.lr": 1e-3, "prompt.mode": "none"}, {"optim.lr": 1e-3, "prompt.mode": "ensemble"}]
    old = make_old(tmp_path, params, space_of(LR | MODE, "old"))
    prior_trials = read_prior_trials(old, space_of(MODE | WEIGHT), data="d")
    assert [sorted(trial.params) for trial in prior_trials.trials] == [
        ["prompt.mode"],
        ["prompt.mode", "prompt.weight"],
    ]


def test_only_complete_trials_with_every_objective_teach(tmp_path: Path):
    two = [{"maximize": "val/p_best"}, {"minimize": "parameters"}]
    old = make_old(tmp_path, [{"optim.lr": 1e-3}, {"optim.lr": 2e-3}])
    assert len(read_prior_trials(old, space_of(LR), data="d").trials) == 2
    none = read_prior_trials(old, space_of(LR, objective=two), data="d")
    assert (none.trials, none.incompatible) == ([], {"an objective was not measured there": 2})
    make_old(tmp_path / "b", [{"optim.lr": 1e-3}], costs={"parameters": 7.0})
    assert read_prior_trials(tmp_path / "b" / "old", space_of(LR, objective=two), data="d").trials[0].values == [
        0.0,
        7.0,
    ]
    make_old(tmp_path / "c", [{"optim.lr": 1e-3}], state="pruned")
    assert read_prior_trials(tmp_path / "c" / "old", space_of(LR), data="d").trials == []


def test_prior_trials_are_kept_once_and_never_count(tmp_path: Path):
    old = make_old(tmp_path, [{"optim.lr": 1e-3}, {"optim.lr": 2e-3}])
    space = space_of(LR)
    for _ in range(2):  # the same command twice
        with open_ledger(tmp_path / "new", space, data="d") as ledger:
            ledger.learn(read_prior_trials(old, space, data="d"))
            assert len(ledger.prior_trials) == 2
    with open_ledger(tmp_path / "new", space, data="d") as ledger:  # and one without it
        assert len(ledger.prior_trials) == 2
        assert (ledger.num_asked, ledger.num_left, ledger.records) == (0, 4, {})
        trial = ledger.study.ask()
        propose(trial, space=space)
        ledger.finish(TrialRecord(number=trial.number, label="", state="complete", params={}, objective=-0.5))
        assert (trial.number, ledger.study.best_value) == (0, -0.5)
    storage = open_journal(tmp_path / "new" / "study.journal")
    stored = optuna.load_study(study_name="new: warm start", storage=storage).get_trials()
    assert [trial.user_attrs[WARM_START]["number"] for trial in stored] == [0, 1]


@pytest.mark.parametrize(
    "space",
    [
        space_of(LR, sampler="random"),
        space_of({"optim.epochs": {"int": [1, 4]}}, sampler="grid"),
        parse_space({"name": "new", "arms": [{"name": "a"}]}),
    ],
)
def test_what_cannot_learn_says_so(tmp_path: Path, space: SearchSpace):
    old = make_old(tmp_path, [{"optim.lr": 1e-3}])
    with pytest.raises(ConfigError, match=r"WARM-FIT .*tpe, gp, cmaes"):
        read_prior_trials(old, space, data="d")


def test_a_study_is_found_by_name_and_by_path(tmp_path: Path):
    old, studies = make_old(tmp_path / "studies", [{"optim.lr": 1e-3}]), Storage(tmp_path / "studies")
    assert find_study("old", studies) == find_study(str(old), Storage(tmp_path)) == Storage(old)
    assert find_study(None, studies) is None
    with pytest.raises(ConfigError, match=r"WARM-FIND .*did you mean 'old'"):
        find_study("odl", studies)
    with pytest.raises(ConfigError, match="no study is there yet"):
        find_study("old", Storage(tmp_path / "none"))


def test_a_damaged_record_is_named(tmp_path: Path):
    old = make_old(tmp_path, [{"optim.lr": 1e-3}])
    (old / "trials" / "00000" / "trial.json").write_text("{")
    with pytest.raises(ConfigError, match="WARM-READ"):
        read_prior_trials(old, space_of(LR), data="d")
