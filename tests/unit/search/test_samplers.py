"""Samplers: what each proposes, and that a resume or an older study changes only what it should."""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Callable
from typing import Any

import optuna
import pytest

from affectgrid.reporting.study.live import opening_notes
from affectgrid.search.space.compatibility import not_modelled
from affectgrid.search.space.reading import parse_space
from affectgrid.search.space.schema import SearchSpace
from affectgrid.search.study.sampling import distribution, encoded, first_proposals, make_sampler, propose

Objective = Callable[[dict[str, Any]], Any]
GRID = parse_space(
    {
        "name": "t",
        "sampler": "grid",
        "space": {
            "prompt.sigma_ratio": {"float": [0.3, 0.5], "step": 0.1, "when": "prompt.mode != none"},
            "prompt.mode": {"choice": ["none", "ensemble"]},
            "model.fusion_depth": {"int": [0, 1]},
            "model.streams": {"choice": [["visual"], ["visual", "audio"]]},
        },
    }
)
PLANE = {"optim.lr": {"float": [1e-4, 1e-2], "log": True}, "model.dropout": {"float": [0.0, 0.5]}}


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def plane(sampler: str, **others: Any) -> SearchSpace:
    return parse_space({"name": "t", "sampler": sampler, "space": PLANE, "trials": 40, **others})


def bowl(values: dict[str, Any]) -> float:
    """Highest at dropout 0.4."""
    return -abs(values["model.dropout"] - 0.4)


def run(
    space: SearchSpace, num_trials: int, objective: Objective, *, prior_trials: list[Any] | None = None
) -> list[dict[str, Any]]:
    study = optuna.create_study(
        sampler=make_sampler(space, num_asked=0, prior_trials=prior_trials or []),
        directions=[goal.direction for goal in space.objective],
    )
    for values in first_proposals(space):
        study.enqueue_trial(values)
    proposals = []
    for _ in range(num_trials):
        trial = study.ask()
        proposals.append(propose(trial, space=space))
        study.tell(trial, objective(proposals[-1]))
    return proposals


def test_a_grid_has_every_active_combination_once_and_the_default_first():
    found = GRID.combinations()
    streams, depths = [["visual"], ["visual", "audio"]], [0, 1]
    reference = [
        {"prompt.mode": mode, "model.fusion_depth": depth, "model.streams": stream, **sigma}
        for mode, depth, stream in itertools.product(["none", "ensemble"], depths, streams)
        for sigma in ([{"prompt.sigma_ratio": s} for s in (0.3, 0.4, 0.5)] if mode == "ensemble" else [{}])
    ]
    assert len(found) == len(reference) == GRID.num_trials == 16
    assert all(values in found for values in reference)
    default = {"prompt.mode": "ensemble", "prompt.sigma_ratio": 0.5, "model.fusion_depth": 1}
    assert found[0] == default | {"model.streams": ["visual", "audio"]}


def test_a_grid_is_walked_in_its_order_even_with_trials_side_by_side_and_a_new_sampler():
    study = optuna.create_study(sampler=make_sampler(GRID, num_asked=0))
    for values in first_proposals(GRID):
        study.enqueue_trial(values)
    trials = [study.ask() for _ in range(16)]
    study.sampler = make_sampler(GRID, num_asked=16)  # a resume: these were asked for, and not yet given values
    draw = random.Random(0)
    draw.shuffle(trials)
    proposed = {trial.number: propose(trial, space=GRID) for trial in trials}
    assert [proposed[number] for number in range(16)] == GRID.combinations()


@pytest.mark.parametrize(("sampler", "num_trials"), [("tpe", 40), ("gp", 18), ("cmaes", 60)])
def test_a_sampler_that_learns_ends_near_the_best(sampler: str, num_trials: int):
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    proposals = run(plane(sampler), num_trials, bowl)
    errors = [abs(proposal["model.dropout"] - 0.4) for proposal in proposals[num_trials // 2 :]]
    assert statistics.median(errors) < 0.085  # of blind draws from [0, 0.5] it is 0.15


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_several_objectives_are_searched(sampler: str):
    two = [{"maximize": "val/p_best"}, {"minimize": "parameters"}]
    space = plane(sampler, objective=two, trials=16)
    proposals = run(space, 8, lambda values: (bowl(values), values["model.dropout"]))
    assert len({proposal["model.dropout"] for proposal in proposals}) == 8


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_lessons_of_an_older_study_are_used_and_stay_out_of_this_one(sampler: str):
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    space, draw = plane(sampler, trials=12), random.Random(1)
    old = [{"optim.lr": 1e-3, "model.dropout": draw.uniform(0, 0.5)} for _ in range(30)]
    kinds = {name: distribution(dimension) for name, dimension in space.space.items()}
    prior_trials = [
        optuna.trial.create_trial(value=bowl(values), params=encoded(values), distributions=kinds) for values in old
    ]
    # Trials 1 to 3 come after the default: without lessons they are drawn at random.
    taught, untaught = run(space, 4, bowl, prior_trials=prior_trials)[1:], run(space, 4, bowl)[1:]
    assert taught != untaught
    error = sum(abs(proposal["model.dropout"] - 0.4) for proposal in taught)
    assert error < sum(abs(proposal["model.dropout"] - 0.4) for proposal in untaught)
    study = optuna.create_study(
        sampler=make_sampler(space, num_asked=0, prior_trials=prior_trials), direction="maximize"
    )
    trial = study.ask()
    propose(trial, space=space)
    study.tell(trial, -1.0)
    assert (trial.number, len(study.trials), study.best_value) == (0, 1, -1.0)


def test_what_a_sampler_does_not_model_is_said():
    dimensions = {
        **PLANE,
        "prompt.mode": {"choice": ["ensemble", "none"]},
        "prompt.file": {"choice": ["3x3-plain", "2x2-plain"], "when": "prompt.mode != none"},
    }
    assert not_modelled(parse_space({"name": "t", "space": dimensions})) == []
    said = opening_notes(parse_space({"name": "t", "space": dimensions, "sampler": "gp"}), None)
    assert said == ["gp does not model prompt.file: drawn at random"]
    assert not_modelled(GRID) == []
