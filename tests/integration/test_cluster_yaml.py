"""cluster.yaml says what Ray's own validation accepts, and what a job needs on every node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def config(repository: Path) -> dict[str, Any]:
    return yaml.safe_load((repository / "cluster.yaml").read_text())


def test_ray_accepts_it(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


def test_ray_refuses_an_unknown_key(config: dict[str, Any]) -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    config["hed_node_type"] = config["head_node_type"]
    with pytest.raises(ValidationError, match="hed_node_type"):
        validate_config(prepare_config(config))


def test_every_node_starts_in_the_project_with_its_environment_and_a_token(config: dict[str, Any]) -> None:
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        start = commands[-1]
        assert start.startswith("cd /home/ubuntu/affectgrid && ")
        assert ".venv/bin" in start
        assert "RAY_AUTH_MODE=token" in start


def test_there_are_cpu_and_gpu_workers_that_may_vanish_when_idle(config: dict[str, Any]) -> None:
    kinds = config["available_node_types"]
    workers = [kind for name, kind in kinds.items() if name != config["head_node_type"]]
    assert any("GPU" in kind["resources"] for kind in workers)
    assert any("GPU" not in kind["resources"] for kind in workers)
    assert all(kind["min_workers"] == 0 for kind in workers)
