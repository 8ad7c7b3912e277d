"""Search spaces: what a file may say, what it means, and what is said about mistakes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from affectgrid.errors import ConfigError
from affectgrid.search.space.condition import Condition
from affectgrid.search.space.reading import load_space, parse_space
from affectgrid.search.space.schema import SearchSpace
from affectgrid.training.config import TrainConfig

SIGMA = {"float": [0.2, 1.0], "log": True}
LR = {"optim.lr": {"float": [1e-4, 1e-2]}}
MODE = {"choice": ["ensemble", "fixed", "none"]}
WEIGHT = {"prompt.weight": {"float": [0, 1], "when": "prompt.mode != none"}}
TWO = [{"maximize": "val/p_best"}, {"minimize": "parameters"}]


def space_of(dimensions: dict[str, Any], **others: Any) -> SearchSpace:
    return parse_space({"name": "test", "space": dimensions, **others})


def weight_when(condition: str) -> dict[str, Any]:
    return {"space": {"prompt.mode": MODE, "prompt.weight": {"float": [0, 1], "when": condition}}}


def problems_of(content: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_space({"name": "test", **content}, where="x.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("name", ["smoke", "fusion", "arms", "ablation", "final"])
def test_every_space_loads_and_opens_with_command_time_and_score(repository: Path, name: str):
    path = repository / "search_spaces" / f"{name}.yaml"
    space = load_space(path)
    assert space.name == name
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert head[0] == "# yaml-language-server: $schema=schema.json"  # editors complete and check it
    assert any(line.startswith("# command:") and "jobs/tune.py" in line for line in head)
    assert any(line.startswith("# expected:") for line in head)


@pytest.mark.parametrize("name", ["smoke", "fusion"])
def test_the_default_is_tried_first(repository: Path, name: str):
    space = load_space(repository / "search_spaces" / f"{name}.yaml")
    first = space.resolve(space.first_points()[0], seed=0)
    searched = {name: getattr_dotted(first, name) for name in space.space}
    assert searched == {name: getattr_dotted(TrainConfig(), name) for name in space.space}


def getattr_dotted(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config


def test_the_demo_searches_what_the_method_is_about(repository: Path):
    space = load_space(repository / "search_spaces" / "smoke.yaml")
    assert space.num_trials >= 12
    assert {"prompt.sigma_ratio", "prompt.file", "prompt.mode", "model.fusion_depth", "optim.lr"} <= space.space.keys()


def test_constants_come_over_defaults_and_values_over_constants():
    space = space_of({"optim.lr": {"float": [1e-4, 1e-2]}}, constants={"optim.epochs": 3, "model.dropout": 0.2})
    config = space.resolve({"optim.lr": 0.005, "model.dropout": 0.4}, seed=7)
    assert (config.seed, config.optim.epochs, config.optim.lr, config.model.dropout) == (7, 3, 0.005, 0.4)
    assert config.prompt == TrainConfig().prompt


def test_yaml_reads_1e_3_as_text_and_it_still_is_a_number(tmp_path: Path):
    path = tmp_path / "space.yaml"
    path.write_text("name: t\nconstants: {optim.weight_decay: 1e-4}\nspace: {optim.lr: {float: [1e-4, 1e-2]}}\n")
    space = load_space(path)
    assert space.space["optim.lr"].float_ == (0.0001, 0.01)
    assert space.resolve({}, seed=0).optim.weight_decay == 0.0001


def test_points_are_completed_with_defaults_that_can_be_sampled():
    dimensions = {
        "optim.lr": {"float": [1e-4, 1e-2]},  # the default, 1e-3, lies inside
        "model.hidden_dim": {"choice": [128, 256]},  # the default, 64, does not
        "prompt.mode": {"choice": ["ensemble", "none"]},
        "prompt.sigma_ratio": {**SIGMA, "when": "prompt.mode != none"},
    }
    space = space_of(dimensions, points=[{}, {"prompt.mode": "none", "model.hidden_dim": 128}])
    assert space.first_points() == [
        {"optim.lr": 1e-3, "prompt.mode": "ensemble", "prompt.sigma_ratio": 0.5},
        {"optim.lr": 1e-3, "prompt.mode": "none", "model.hidden_dim": 128},
    ]


def test_the_default_comes_first_where_no_point_is_equal_to_it():
    space = space_of({**LR, "prompt.mode": MODE}, points=[{"prompt.mode": "none"}])
    assert space.first_points() == [
        {"optim.lr": 1e-3, "prompt.mode": "ensemble"},
        {"optim.lr": 1e-3, "prompt.mode": "none"},
    ]
    spelt_out = space_of(LR, points=[{"optim.lr": 5e-3}, {"optim.lr": 1e-3}])
    assert spelt_out.first_points() == [{"optim.lr": 5e-3}, {"optim.lr": 1e-3}]  # it is there: the order is the user's


def test_trials_and_time_are_two_limits():
    assert space_of(LR).num_trials == 20
    assert space_of(LR, trials=7, time_budget="2h").num_trials == 7
    timed = space_of(LR, time_budget="1h 30min")
    assert (timed.num_trials, timed.time_budget_s) == (None, 5400)
    assert timed.identity() == space_of(LR, time_budget=5).identity() == space_of(LR).identity()


def test_one_objective_reads_as_before_and_several_are_part_of_the_identity():
    assert space_of(LR).identity()["objective"] == "val/p_best"
    assert space_of(LR, objective=TWO).identity()["objective"] == TWO
    assert space_of(LR, objective=[TWO[0]]).identity() == space_of(LR).identity()


def test_a_condition_may_exclude_a_value_that_is_not_searched():
    space = space_of({"prompt.mode": {"choice": ["ensemble", "fixed"]}, **WEIGHT})
    assert "prompt.weight" in space.first_points()[0]


def test_a_file_is_checked_with_the_values_that_replace_its_own(tmp_path: Path):
    path = tmp_path / "space.yaml"
    path.write_text("name: t\nsampler: grid\nspace: {optim.epochs: {int: [1, 5]}}\n")
    assert load_space(path, name="other", trials=None).name == "other"
    with pytest.raises(ConfigError, match="SPACE-FIT"):
        load_space(path, trials=4)


def test_cmaes_names_its_package_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)  # an import of it fails
    found = problems_of({"space": {**LR, "model.dropout": {"float": [0, 0.5]}}, "sampler": "cmaes"})
    assert len(found) == 1
    assert "SPACE-PACKAGE" in found[0]
    assert "pip install 'affectgrid[cmaes]'" in found[0]


def test_prompt_files_are_all_that_a_trial_may_ask_for():
    files = {"choice": ["2x2-plain", "5x5-plain"]}
    assert space_of({"prompt.file": files}).prompt_files() == ("2x2-plain", "5x5-plain")
    assert space_of({"prompt.file": {**files, "when": "prompt.mode == fixed"}}, constants={"prompt.mode": "fixed"})
    assert space_of({"optim.lr": {"float": [1e-3, 1e-2]}}).prompt_files() == ("3x3-plain",)
    modes = space_of({"prompt.mode": {"choice": ["context", "none"]}}).values_of("prompt.mode")
    assert modes == ("context", "none")
    arms = parse_space({"name": "t", "arms": [{"name": "a"}, {"name": "b", "set": {"prompt.file": "polar8-plain"}}]})
    assert arms.prompt_files() == ("3x3-plain", "polar8-plain")


def test_arms_run_with_every_seed_and_call_their_constants_base():
    arms = [{"name": "full"}, {"name": "audio", "set": {"model.streams": ["audio"]}}]
    space = parse_space({"name": "t", "arms": arms, "seeds": [0, 1, 2], "base": {"optim.epochs": 2}})
    assert space.num_trials == 6
    assert space.resolve(space.arms[1].set, seed=1).model.streams == ("audio",)
    assert space.constants == {"optim.epochs": 2}


def test_the_name_and_the_number_of_trials_are_not_of_the_identity():
    space = space_of({"prompt.sigma_ratio": SIGMA}, trials=5)
    other = space_of({"prompt.sigma_ratio": SIGMA}, trials=50, name="other")
    assert (other.name, other.num_trials) == ("other", 50)
    assert other.identity() == space.identity()
    assert space_of({"prompt.sigma_ratio": {"float": [0.2, 1.1]}}).identity() != space.identity()


@pytest.mark.parametrize(
    ("text", "values", "holds"),
    [
        ("prompt.mode == context", {"prompt.mode": "context"}, True),
        ("prompt.mode == context", {"prompt.mode": "fixed"}, False),
        ("prompt.mode != none", {"prompt.mode": "fixed"}, True),
        ("prompt.mode in [fixed, ensemble]", {"prompt.mode": "ensemble"}, True),
        ("prompt.mode in [fixed, ensemble]", {"prompt.mode": "none"}, False),
        ("model.fusion_depth != 0", {"model.fusion_depth": 0}, False),
        ("model.fusion_depth != 0", {}, False),  # an inactive parent
    ],
)
def test_conditions(text: str, values: dict[str, Any], holds: bool):
    assert Condition.parse(text).holds(values) is holds


@pytest.mark.parametrize("text", ["prompt.mode", "a = b", "a in b", "a == [b]", "a == [", ""])
def test_a_condition_that_cannot_be_read_says_what_can(text: str):
    with pytest.raises(ValueError):
        Condition.parse(text)


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        ({"spaec": {}}, "SPACE-KEY", "did you mean 'space'"),
        ({"space": {"prompt.sigma_ratio": {**SIGMA, "lg": True}}}, "SPACE-KEY", "did you mean 'log'"),
        ({"space": {"prompt.sigma_rato": SIGMA}}, "SPACE-NAME", "did you mean 'prompt.sigma_ratio'"),
        (
            {"space": {"prompt.sigma_ratio": SIGMA}, "constants": {"optim.lrr": 1}},
            "SPACE-NAME",
            "did you mean 'optim.lr'",
        ),
        ({"space": {"seed": {"int": [0, 3]}}}, "SPACE-NAME", "list the seeds under seeds"),
        ({"space": {"prompt.sigma_ratio": {"float": [1.0, 0.2]}}}, "SPACE-VALUE", "low 1 is above high 0.2"),
        ({"space": {"prompt.weight": {"float": [0, 1], "log": True}}}, "SPACE-VALUE", "cannot start at 0"),
        ({"space": {"prompt.sigma_ratio": {"float": [0, 1]}}}, "SPACE-BOUND", "greater than 0"),
        ({"space": {"model.hidden_dim": {"choice": [64, 30]}}}, "SPACE-BOUND", "not divisible by num_heads"),
        ({"space": {"optim.lr": {"float": [1e-4, 1], "int": [1, 2]}}}, "SPACE-VALUE", "exactly one"),
        ({"space": {"optim.lr": {}}}, "SPACE-VALUE", "exactly one"),
        ({"space": {"prompt.mode": {"choice": ["none", "none"]}}}, "SPACE-VALUE", "twice"),
        ({"space": {"prompt.mode": {"choice": ["magic"]}}}, "SPACE-BOUND", "'magic'"),
        ({"space": {"prompt.sigma_ratio": {**SIGMA, "when": "prompt.mod == none"}}}, "SPACE-WHEN", "prompt.mod"),
        (
            {"space": {"prompt.sigma_ratio": SIGMA}, "constants": {"prompt.sigma_ratio": 1}},
            "SPACE-TWICE",
            "fixed and searched",
        ),
        (
            {"space": {"prompt.sigma_ratio": SIGMA}, "points": [{"prompt.sigma_ratio": 5}]},
            "SPACE-POINT",
            "outside the space",
        ),
        ({"space": {"prompt.sigma_ratio": SIGMA}, "points": [{"optim.lr": 0.1}]}, "SPACE-POINT", "not searched"),
        ({"space": {"prompt.sigma_ratio": SIGMA}, "objective": "val/f1"}, "SPACE-VALUE", "val/p_best"),
        ({"space": LR, "objective": [{"maximize": "val/p_best"}, {"minimize": "params"}]}, "SPACE-VALUE", "parameters"),
        ({"space": LR, "objective": [{"maximise": "val/p_best"}]}, "SPACE-KEY", "did you mean 'maximize'"),
        ({"space": LR, "objective": [{"minimize": "val/p_best"}]}, "SPACE-VALUE", "'parameters'"),
        ({"space": LR, "objective": [{"minimize": "parameters"}]}, "SPACE-VALUE", "val/p_best once"),
        ({"space": LR, "objective": [{}]}, "SPACE-VALUE", "either maximize or minimize"),
        ({"space": LR, "objective": []}, "SPACE-VALUE", "at least 1"),
        ({"space": LR, "sampler": "tpee"}, "SPACE-VALUE", "did you mean 'tpe'"),
        ({"space": LR, "pruner": "meadian"}, "SPACE-VALUE", "did you mean 'median'"),
        ({"space": LR, "time_budget": "2 hours"}, "SPACE-VALUE", "write 2h"),
        ({"space": LR, "time_budget": 0}, "SPACE-VALUE", "leaves no time"),
        ({"space": LR, "time_budgt": "2h"}, "SPACE-KEY", "did you mean 'time_budget'"),
        ({"space": LR, "objective": TWO, "pruner": "asha"}, "SPACE-FIT", "drop pruner"),
        ({"space": LR, "objective": TWO, "pruner": "median"}, "SPACE-FIT", "pruner median with 2 objectives"),
        ({"space": LR, "objective": TWO, "sampler": "cmaes"}, "SPACE-FIT", "take tpe or gp"),
        ({"arms": [{"name": "a"}], "objective": TWO}, "SPACE-FIT", "arms with several objectives"),
        ({"arms": [{"name": "a"}], "sampler": "gp"}, "SPACE-FIT", "arms are run as they are"),
        ({"space": LR, "sampler": "grid"}, "SPACE-FIT", "optim.lr is continuous"),
        ({"space": {"optim.epochs": {"int": [1, 5]}}, "sampler": "grid", "trials": 4}, "SPACE-FIT", "5 combinations"),
        ({"space": {"optim.epochs": {"int": [1, 20_000]}}, "sampler": "grid"}, "SPACE-FIT", "more than 10000"),
        ({"space": LR, "sampler": "cmaes"}, "SPACE-FIT", "cmaes with 1 numbers"),
        ({"space": {"prompt.mode": MODE}, "sampler": "cmaes"}, "SPACE-FIT", "at least 2"),
        ({"space": {**LR, "prompt.mode": MODE, **WEIGHT}, "sampler": "cmaes"}, "SPACE-FIT", "prompt.weight, which not"),
        (
            {"space": {"prompt.weight": {"float": [0, 1], "when": "prompt.mode != none"}}, "sampler": "gp"}
            | {"constants": {"prompt.mode": "fixed"}},
            "SPACE-FIT",
            "take tpe",
        ),
        ({"space": {"model.dropout": {"float": [0.1, 0.4], "step": 0.2}}}, "SPACE-VALUE", "end at 0.3"),
        (
            {"space": {"model.dropout": {"float": [0.0, 0.4], "step": 0.2}}, "points": [{"model.dropout": 0.3}]},
            "SPACE-POINT",
            "outside the space",
        ),
        (weight_when("prompt.mode == fixd"), "SPACE-WHEN", "did you mean 'fixed'"),
        (weight_when("prompt.mode == learned"), "SPACE-WHEN", "prompt.mode == learned is never true"),
        ({"space": {"prompt.sigma_ratio": SIGMA}, "trials": 0}, "SPACE-VALUE", "greater than 0"),
        ({"space": {"prompt.sigma_ratio": SIGMA}, "arms": [{"name": "a"}]}, "SPACE-VALUE", "either space or arms"),
        ({"arms": [{"name": "a"}, {"name": "a"}]}, "SPACE-VALUE", "one name"),
        ({"arms": [{"name": "a", "set": {"model.fusoin": "gate"}}]}, "SPACE-NAME", "did you mean 'model.fusion'"),
        ({"name": "a/b", "space": {"prompt.sigma_ratio": SIGMA}}, "SPACE-VALUE", "name"),
    ],
)
def test_a_mistake_is_named_with_the_way_out(content: dict[str, Any], code: str, words: str):
    found = problems_of(content)
    assert any(line.startswith(f"{code} x.yaml") and words in line for line in found), found


def test_a_circle_of_conditions_is_refused():
    dimensions = {
        "model.dropout": {"float": [0, 0.5], "when": "optim.epochs == 3"},
        "optim.epochs": {"int": [1, 5], "when": "model.dropout == 0"},
    }
    assert "form a circle" in problems_of({"space": dimensions})[0]


def test_all_mistakes_are_named_at_once():
    found = problems_of({"space": {"optim.lrr": SIGMA, "prompt.sigmaratio": SIGMA}, "constants": {"model.depth": 1}})
    assert len(found) == 3


@pytest.mark.parametrize(
    ("text", "code"),
    [("- a\n- b\n", "SPACE-YAML"), ("a: [", "SPACE-YAML"), ("a: !!python/object:os.system {}", "SPACE-YAML")],
)
def test_a_file_that_is_no_plain_mapping_is_refused(tmp_path: Path, text: str, code: str):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=code):
        load_space(path)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(ConfigError, match="SPACE-READ"):
        load_space(tmp_path / "none.yaml")
