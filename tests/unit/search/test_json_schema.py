"""The JSON schema of search-space files says what the reader says, as far as a schema can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from affectgrid.errors import ConfigError
from affectgrid.search.space.json_schema import schema_text, setting_schemas, space_schema
from affectgrid.search.space.reading import parse_space
from affectgrid.search.space.schema import setting_names
from affectgrid.training.config import TrainConfig

LR = {"optim.lr": {"float": [1e-4, 1e-2], "log": True}}


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = space_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_file_is_what_the_code_says(repository: Path):
    written = (repository / "search_spaces" / "schema.json").read_text()
    assert written == schema_text(), "make schema"


def test_every_space_passes(repository: Path, validator: Any):
    paths = sorted((repository / "search_spaces").glob("*.yaml"))
    assert len(paths) >= 4
    for path in paths:
        assert list(validator.iter_errors(yaml.safe_load(path.read_text()))) == [], path


def test_settings_carry_their_names_words_and_bounds():
    schemas = setting_schemas()
    assert tuple(schemas) == setting_names()
    sigma = schemas["prompt.sigma_ratio"]
    assert sigma["description"] == TrainConfig().prompt.__class__.model_fields["sigma_ratio"].description
    assert (sigma["type"], sigma["exclusiveMinimum"], sigma["default"]) == ("number", 0, 0.5)
    assert "ensemble" in schemas["prompt.mode"]["enum"]


@pytest.mark.parametrize(
    "content",
    [
        {"space": LR, "time_budget": "1h 30min", "objective": [{"maximize": "val/p_best"}, {"minimize": "latency_ms"}]},
        {"space": {"prompt.mode": {"choice": ["none", "fixed"]}, "prompt.weight": {"float": [0, 1]}}, "time_budget": 9},
        {"space": {"model.streams": {"choice": [["visual"], ["visual", "audio"]]}}, "sampler": "grid"},
        {"arms": [{"name": "a", "set": {"optim.epochs": 3}}], "seeds": [0, 1], "base": {"optim.lr": 1e-3}},
        {"space": LR, "points": [{"optim.lr": 1e-3}], "sampler": "gp", "trials": 5, "objective": "val/p_best"},
    ],
)
def test_both_accept(validator: Any, content: dict[str, Any]):
    content = {"name": "t", **content}
    parse_space(content)
    assert list(validator.iter_errors(content)) == []


@pytest.mark.parametrize(
    "content",
    [
        {"space": {"optim.lrr": {"float": [1e-4, 1e-2]}}},
        {"space": {"optim.lr": {"float": [0, 1e-2]}}},  # 0 is no learning rate
        {"space": {"optim.lr": {"float": [1e-4, 1e-2], "lg": True}}},
        {"space": {"optim.lr": {"float": [1e-4]}}},
        {"space": {"optim.lr": {}}},
        {"space": {"prompt.mode": {"choice": ["magic"]}}},
        {"space": {"prompt.mode": {"float": [0, 1]}}},
        {"space": {"model.dropout": {"choice": [0.1, 1.5]}}},
        {"space": LR, "constants": {"optim.epochs": 0}},
        {"space": LR, "points": [{"optim.lr": "fast"}]},
        {"space": LR, "sampler": "tpee"},
        {"space": LR, "time_budget": "2 hours"},
        {"space": LR, "objective": [{"maximize": "parameters"}]},
        {"space": LR, "arms": [{"name": "a"}]},
        {"arms": [{"name": "a", "set": {"optim.epoch": 3}}]},
        {"spaec": LR},
        {},
    ],
)
def test_both_refuse(validator: Any, content: dict[str, Any]):
    content = {"name": "t", **content}
    with pytest.raises(ConfigError):
        parse_space(content)
    assert list(validator.iter_errors(content))
