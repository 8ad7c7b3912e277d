"""Importance and effects: what matters is found, what does not is not, and few trials are said to be few."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import optuna
import pytest

from affectgrid.analysis import ped_anova
from affectgrid.analysis.ped_anova import importance
from affectgrid.analysis.slices import SIGMA, SigmaByGrid, effects, sigma_by_grid
from affectgrid.reporting.figures import save
from affectgrid.reporting.study import figures as pictures
from affectgrid.reporting.study.pictures import draw_search
from affectgrid.reporting.study.tables import importance_note, importance_rows
from affectgrid.search.space.reading import parse_space
from affectgrid.search.space.schema import PROMPT_FILE
from affectgrid.search.study.records import TrialRecord

SPACE = parse_space(
    {
        "name": "s",
        "space": {
            "prompt.mode": {"choice": ["ensemble", "none"]},
            PROMPT_FILE: {"choice": ["3x3-plain", "2x2-plain"], "when": "prompt.mode != none"},
            SIGMA: {"float": [0.1, 2.0], "log": True, "when": "prompt.mode != none"},
            "model.dropout": {"float": [0.0, 0.5]},
        },
    }
)


@pytest.fixture(scope="module")
def study() -> optuna.Study:
    """P depends on sigma where it is active, on the mode, and not on dropout."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def p(trial: optuna.Trial) -> float:
        trial.suggest_float("model.dropout", 0.0, 0.5)
        if trial.suggest_categorical("prompt.mode", ["ensemble", "none"]) == "none":
            return 0.2
        grid = trial.suggest_categorical(PROMPT_FILE, ["3x3-plain", "2x2-plain"])
        sigma = trial.suggest_float(SIGMA, 0.1, 2.0, log=True)
        return 0.7 - 0.1 * abs(math.log(sigma / 0.4)) - 0.01 * (grid == "2x2-plain")

    found = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(3))
    found.optimize(p, n_trials=80)
    return found


def records(study: optuna.Study) -> list[TrialRecord]:
    return [
        TrialRecord(number=t.number, label="", state="complete", params=t.params, objective=t.value)
        for t in study.trials
    ]


def test_what_matters_stands_out_and_what_does_not_is_left_below_chance(study: optuna.Study):
    found = importance(study.trials, {trial.number: trial.value or 0.0 for trial in study.trials})
    by_name = {one.name: one for one in found.parameters}
    assert found.parameters[0].name == SIGMA
    assert by_name[SIGMA].telling
    assert not by_name["model.dropout"].telling
    assert by_name[SIGMA].num_trials < by_name["model.dropout"].num_trials == 80
    assert sum(one.share for one in found.parameters) == pytest.approx(1)
    assert importance_rows(found)[0]["above chance"] == "yes"
    assert importance_note(found).startswith("PED-ANOVA: how far the best 8 of 80 complete trials")


def test_of_what_is_shuffled_one_in_twenty_shows_a_parameter_above_chance():
    draw = np.random.default_rng(0)
    shuffled = {f"p{number}": draw.gamma(1 + number, size=2000) for number in range(20)}
    chance = ped_anova._chance(shuffled)
    above = np.any([values > chance[name] for name, values in shuffled.items()], axis=0)
    assert above.mean() == pytest.approx(0.05, abs=0.001)


def test_few_trials_give_no_importance_and_say_so(study: optuna.Study):
    few = importance(study.trials, dict.fromkeys(range(12), 0.5))
    assert few.parameters == ()
    assert importance_note(few).startswith("12 complete trials are too few")


def test_effects_are_of_active_parameters_in_complete_trials(study: optuna.Study):
    trials = [*records(study), TrialRecord(number=99, label="", state="pruned", params={SIGMA: 1.0}, objective=0.9)]
    found = {one.name: one for one in effects(SPACE, trials)}
    active = sum(SIGMA in trial.params for trial in study.trials)
    assert len(found[SIGMA].values) == active < 80 == len(found["model.dropout"].values)
    assert found[SIGMA].log
    assert not found["model.dropout"].log
    assert set(found["prompt.mode"].values) == {"ensemble", "none"}
    assert [one.name for one in effects(SPACE, trials[:2])] == []


def test_sigma_by_grid_needs_enough_trials(study: optuna.Study, tmp_path: Path):
    both = sigma_by_grid(SPACE, records(study))
    assert isinstance(both, SigmaByGrid)
    assert set(both.grid) == {"3x3-plain", "2x2-plain"}
    few = sigma_by_grid(SPACE, records(study)[:20])
    said = draw_search(tmp_path, (), (), few)
    assert said.pictures == ()
    assert "fewer than 20" in said.words[0]
    assert [one.path.name for one in draw_search(tmp_path, (), (), both).pictures] == ["sigma-by-grid.png"]
    assert sigma_by_grid(parse_space({"name": "s", "space": {"model.dropout": {"float": [0, 0.5]}}}), []) is None
    assert draw_search(tmp_path, (), (), None).words == ()


def test_the_local_mean_is_blank_where_nothing_is_near():
    ticks = np.linspace(0, 1, 11)
    mean = pictures._local_mean(ticks, np.array([0.0, 0.0, 0.02]), np.array([0.5, 0.5, 0.5]))
    assert mean[0] == pytest.approx(0.5)
    assert np.isnan(mean[-1])


def test_the_figures_are_drawn(study: optuna.Study, tmp_path: Path):
    found = importance(study.trials, {trial.number: trial.value or 0.0 for trial in study.trials})
    both = sigma_by_grid(SPACE, records(study))
    assert isinstance(both, SigmaByGrid)
    drawn = {
        "importance": pictures.importances(found.parameters),
        "slices": pictures.slices(effects(SPACE, records(study))),
        "sigma": pictures.sigma_by_grid(both),
    }
    for name, figure in drawn.items():
        assert save(figure, tmp_path / f"{name}.png").stat().st_size > 5000
    assert [axes.get_title() for axes in drawn["slices"].axes if axes.get_visible()] == list(SPACE.space)
    bands = drawn["sigma"].axes[0].get_yticklabels()
    assert [label.get_text() for label in bands] == ["2x2-plain", "3x3-plain"]


@pytest.mark.long
def test_of_twenty_useless_parameters_hardly_any_is_called_above_chance():
    """Twenty parameters times twenty studies of random trials: a study with any may come by in one of twenty."""
    names = [f"p{number}" for number in range(20)]
    told = []
    for seed in range(20):
        draw = np.random.default_rng(seed)
        uniform = {name: optuna.distributions.FloatDistribution(0, 1) for name in names}
        trials = [
            optuna.trial.create_trial(
                params={name: float(draw.uniform()) for name in names},
                distributions=uniform,
                value=float(draw.normal()),
            )
            for _ in range(40)
        ]
        for number, trial in enumerate(trials):
            trial.number = number
        found = importance(trials, {trial.number: trial.value or 0.0 for trial in trials})
        told.append(sum(one.telling for one in found.parameters))
    assert sum(count > 0 for count in told) <= 3
    assert sum(told) <= 4
