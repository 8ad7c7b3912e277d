"""Nodes that cannot work are named before any work, or when work first reaches them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from affectgrid.data.workspace import Workspace
from affectgrid.distributed.cluster import runtime_env
from affectgrid.errors import ConfigError
from support.processes import REPOSITORY

TWO_NODES = """
import sys, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from affectgrid.distributed import preflight
from affectgrid.distributed.cluster import runtime_env
from affectgrid.errors import ConfigError
from affectgrid.storage import Storage

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": int(sys.argv[2])})
cluster.add_node(num_cpus=1)
ray.init(cluster.address, log_to_driver=False, logging_level="ERROR", runtime_env=runtime_env())
began = time.monotonic()
try:
    preflight.check_nodes(Storage(sys.argv[1]), reads=[Path(each) for each in sys.argv[3:]])
    print("all see it")
except ConfigError as error:
    print(error)
print(f"within {time.monotonic() - began:.0f} s")
ray.shutdown()
cluster.shutdown()
"""


def ask(short_tmp: Path, place: str, *, gpus: int = 0, reads: tuple[str, ...] = ()) -> str:
    script = short_tmp / "two.py"
    script.write_text(TWO_NODES)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "platform"), "RAY_TMPDIR": str(short_tmp)}
    done = subprocess.run(
        [sys.executable, script, place, str(gpus), *reads], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_folder_that_every_node_sees_is_accepted(short_tmp: Path) -> None:
    assert "all see it" in ask(short_tmp, str(short_tmp))
    assert not list(short_tmp.glob(".nonce-*"))


def test_a_folder_that_a_node_does_not_see_is_named_with_it(short_tmp: Path) -> None:
    said = ask(short_tmp, str(short_tmp), reads=("/no/such/data",))
    assert "CFG-SHARED /no/such/data: a folder that node" in said
    assert "s3://" in said
    assert "mount" in said


def test_a_node_that_announces_a_gpu_without_cuda_is_named(short_tmp: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    assert "CFG-CUDA" in ask(short_tmp, str(short_tmp), gpus=1)


def test_a_job_that_asks_for_a_gpu_and_gets_none_that_works_fails(ray_cluster: None) -> None:
    import ray

    from affectgrid.distributed import preflight

    @ray.remote(num_cpus=0)
    def here() -> str:
        return preflight.device()

    assert ray.get(here.remote()) in {"cpu", "cuda"}


def test_what_a_job_was_submitted_with_is_not_sent_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray refuses to merge a name that both sides set, even to the same value."""
    monkeypatch.setenv("HF_HOME", "/var/tmp/models")
    monkeypatch.setenv("AFFECTGRID_CACHE", "/var/tmp/x")
    config = {"runtime_env": {"env_vars": {"HF_HOME": "/var/tmp/models"}}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(config))
    assert runtime_env()["env_vars"].keys() & {"HF_HOME", "AFFECTGRID_CACHE"} == {"AFFECTGRID_CACHE"}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": {}}))
    assert "HF_HOME" in runtime_env()["env_vars"]


def test_results_are_not_kept_in_rays_session_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="AFFECTGRID_OUT"):
        Workspace.open(tmp_path / "working_dir_files" / "_ray_pkg_0123" / "outputs")


@pytest.mark.long
def test_progress_of_training_is_told_by_a_driver_without_a_terminal(short_tmp: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from affectgrid.distributed.cluster import connect
        from affectgrid.distributed.train.run import train
        from affectgrid.reporting import progress
        from support.planted import planted_data, small_config
        progress.LINE_EVERY_S = 0.0
        with connect("local", num_cpus=2):
            train(small_config(), planted_data(), storage=Path(sys.argv[1]), name="r")
        """
    )
    path = os.pathsep.join([str(REPOSITORY / "platform"), str(REPOSITORY / "tests")])
    environment = os.environ | {"PYTHONPATH": path, "RAY_TMPDIR": str(short_tmp)}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script, str(short_tmp / "runs")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, (done.stderr, time.monotonic() - began)
    assert "train: 3 of 3 epochs" in done.stderr
