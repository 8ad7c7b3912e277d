"""Proposals: inside the space, active where they should be, and never the same ones again after a resume."""

from __future__ import annotations

import pickle
from typing import Any

import optuna
import pytest

from affectgrid.search.space.reading import parse_space
from affectgrid.search.study.assignment import assignment
from affectgrid.search.study.sampling import first_proposals, make_sampler, propose, proposer

CONDITIONAL = parse_space(
    {
        "name": "t",
        "space": {
            "prompt.sigma_ratio": {
                "float": [0.2, 1.0],
                "log": True,
                "when": "prompt.mode != none",
            },  # before its parent
            "prompt.mode": {"choice": ["ensemble", "none"]},
            "model.streams": {"choice": [["visual"], ["visual", "audio"]]},
            "model.hidden_dim": {"int": [32, 96], "step": 32},
        },
    }
)
ARMS = parse_space(
    {
        "name": "t",
        "seeds": [3, 5],
        "arms": [{"name": "full"}, {"name": "audio", "set": {"model.streams": ["audio"]}}],
    }
)


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def ask(space: Any, num_trials: int, *, num_asked: int = 0) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=make_sampler(space, num_asked=num_asked), direction="maximize")
    proposals = []
    for number in range(num_trials):
        trial = study.ask()
        proposals.append(propose(trial, space=space))
        study.tell(trial, number % 3)
    return proposals


def test_every_proposal_is_a_valid_configuration_and_conditions_hold():
    proposals = ask(CONDITIONAL, 25)  # past the random start, into TPE
    modes = {proposal["prompt.mode"] for proposal in proposals}
    assert modes == {"ensemble", "none"}
    for proposal in proposals:
        assert ("prompt.sigma_ratio" in proposal) == (proposal["prompt.mode"] != "none")
        assert proposal["model.hidden_dim"] in (32, 64, 96)
        config = CONDITIONAL.resolve(proposal, seed=0)
        assert list(config.model.streams) == proposal["model.streams"]


def test_a_sampler_repeats_itself_for_a_seed_and_not_after_a_resume():
    assert ask(CONDITIONAL, 4) == ask(CONDITIONAL, 4)
    assert ask(CONDITIONAL, 4) != ask(CONDITIONAL, 4, num_asked=4)


def test_the_points_are_what_optuna_tries_first():
    study = optuna.create_study()
    for values in first_proposals(CONDITIONAL):
        study.enqueue_trial(values)
    expected = {"prompt.mode": "ensemble", "prompt.sigma_ratio": 0.5, "model.hidden_dim": 64}
    assert propose(study.ask(), space=CONDITIONAL) == expected | {"model.streams": ["visual", "audio"]}


def test_arms_come_with_each_seed_once():
    study = optuna.create_study(sampler=make_sampler(ARMS, num_asked=0))
    for values in first_proposals(ARMS):
        study.enqueue_trial(values)
    assigned = [assignment(ARMS, number, propose(study.ask(), space=ARMS)) for number in range(ARMS.num_trials)]
    assert [(one.arm, one.seeds) for one in assigned] == [
        ("full", (3,)),
        ("audio", (3,)),
        ("full", (5,)),
        ("audio", (5,)),
    ]
    assert assigned[1].values == {"model.streams": ["audio"]}
    assert assigned[1].label == "audio, seed 3"


def test_an_assignment_of_a_sampled_trial_runs_the_spaces_seeds():
    proposal = {"prompt.mode": "none", "model.streams": ["visual"], "model.hidden_dim": 32}
    one = assignment(CONDITIONAL, 4, proposal)
    assert (one.number, one.seeds, one.arm) == (4, (0,), None)
    assert one.label == "mode none, streams visual, hidden_dim 32"


def test_the_proposer_travels():
    again = pickle.loads(pickle.dumps(proposer(CONDITIONAL)))
    study = optuna.create_study()
    assert again(study.ask()).keys() <= CONDITIONAL.space.keys()
