"""A cluster for real: nodes with disks of their own and a bucket between them; nothing is lost with a machine."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from affectgrid.storage import Storage
from affectgrid.training.inference.package import load_package
from cluster.support_cloud import MLFLOW, Cloud, cloud, upload_folder, wait_for_end
from cluster.support_nodes import missing_for_nodes, wait_for

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(missing_for_nodes() is not None, reason=str(missing_for_nodes())),
    pytest.mark.timeout(290),
]

NUM_TRIALS = 12
QUICK = {"model.hidden_dim": 16, "window.length": 40, "window.stride": 40}
DIMENSIONS = {
    "prompt.mode": {"choice": ["ensemble", "none"]},
    "optim.lr": {"float": [1.0e-3, 1.0e-2], "log": True},
}


@pytest.fixture(scope="module")
def nodes(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The tests share machines, corpus and features; each first starts what the one before it has killed."""
    with cloud(tmp_path_factory.mktemp("cloud")) as made:
        upload_folder(rendered, Storage(made.bucket.uri("cloud/data")))
        yield made


def study(nodes: Cloud, name: str, *, epochs: int) -> tuple[str, ...]:
    """The literal command, for a small space on the small corpus."""
    space = {"name": name, "trials": NUM_TRIALS, "constants": QUICK | {"optim.epochs": epochs}, "space": DIMENSIONS}
    path = nodes.network.shared / f"{name}.yaml"
    path.write_text(yaml.safe_dump(space))
    return ("jobs/tune.py", "--data", nodes.inside("data"), "--space", str(path))


def require_whole(nodes: Cloud, name: str, said: str, tmp_path: Path) -> None:
    """Every trial once, in the bucket with its model and in MLflow, and the best model loads."""
    assert f"{name}: {NUM_TRIALS} of {NUM_TRIALS} trials" in said
    trials = nodes.trials(name)
    assert sorted(trials) == list(range(NUM_TRIALS))
    assert {trial["state"] for trial in trials.values()} == {"complete"}
    place = nodes.out / "studies" / name
    assert all(place.exists(f"trials/{number:05d}/seed-0/model.safetensors") for number in trials)
    summary = place.read_json("summary.json")
    assert [trial["number"] for trial in summary["trials"]] == list(range(NUM_TRIALS))
    copy = tmp_path / "best"
    (place / "best" / "model").download_all("", copy)
    best = max(trials.values(), key=lambda trial: trial["objective"])
    assert load_package(copy).metrics["val/p"] == pytest.approx(best["objective"])
    assert logged(nodes, name) == list(range(NUM_TRIALS))


def logged(nodes: Cloud, name: str) -> list[int]:
    """Numbers of the trials that MLflow on the head has as finished runs of this study."""
    database = nodes.network.shared / "mlflow.db"
    shutil.copyfile(nodes.head.path(nodes.head.disk / "mlflow.db"), database)
    client = MlflowClient(f"sqlite:///{database}")
    (experiment,) = (each for each in client.search_experiments() if each.name == "affectgrid")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    (parent,) = (run for run in runs if run.info.run_name == name)
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.info.status for run in children} == {"FINISHED"}
    assert all("best/p" in run.data.metrics for run in children)
    return sorted(int(run.data.tags["trial"]) for run in children)


def test_the_literal_command_leaves_nothing_of_value_on_a_disk(nodes: Cloud, tmp_path: Path) -> None:
    nodes.ensure(2, 3)
    said = nodes.job(*study(nodes, "literal", epochs=2))
    assert len({trial["worker"].partition(":")[0] for trial in nodes.trials("literal").values()}) == 2
    assert nodes.left_on_disks() == []
    require_whole(nodes, "literal", said, tmp_path)


def test_training_on_two_nodes(nodes: Cloud, tmp_path: Path) -> None:
    nodes.ensure(2, 3)
    quick = [f"--config.{name.replace('_', '-')}={value}" for name, value in QUICK.items()]
    command = ("jobs/train.py", "--data", nodes.inside("data"), "--workers", 2, "--name", "two", *quick)
    said = nodes.job(*command, "--config.optim.epochs=3")
    assert "s3://bucket/cloud/out/runs/two/model" in said
    (nodes.out / "runs" / "two" / "model").download_all("", tmp_path / "model")
    assert load_package(tmp_path / "model").metrics == nodes.out.read_json("runs/two/result.json")["best"]
    assert nodes.left_on_disks() == []


def test_a_node_is_lost_in_the_middle_of_a_search(nodes: Cloud, tmp_path: Path) -> None:
    nodes.ensure(2, 3)
    process = nodes.head.start(*nodes.submit(*study(nodes, "node-lost", epochs=8)))
    nodes.wait_for_trials("node-lost", 3, process)
    nodes.network.machines[3].kill()
    assert len(nodes.trials("node-lost")) < NUM_TRIALS
    said = nodes.head.finish(process, 150)
    assert process.returncode == 0, said[-6000:]
    require_whole(nodes, "node-lost", said, tmp_path)


def test_a_job_is_stopped_and_submitted_again(nodes: Cloud, tmp_path: Path) -> None:
    """With an uploaded folder, and MLflow's address as an environment variable of the job."""
    nodes.ensure(2)
    command = study(nodes, "stopped", epochs=8)
    with_folder = nodes.network.shared / "upload"
    if not with_folder.exists():
        nodes.head.run("bash", "-c", f"mkdir {with_folder} && cp -r platform jobs search_spaces {with_folder}")
    variables = json.dumps({"env_vars": {"MLFLOW_TRACKING_URI": MLFLOW}})
    options = ("--working-dir", with_folder, "--runtime-env-json", variables)
    process = nodes.head.start(*nodes.submit(*command, options=(*options, "--submission-id", "first")))
    before = nodes.wait_for_trials("stopped", 3, process)
    nodes.head.run("ray", "job", "stop", "--address", "http://10.77.0.1:8265", "first")
    nodes.head.finish(process, 60)
    before |= nodes.trials("stopped")
    assert len(before) < NUM_TRIALS
    said = nodes.job(*command, options=options)
    after = nodes.trials("stopped")
    assert {number: after[number]["began_at"] for number in before} == {
        number: trial["began_at"] for number, trial in before.items()
    }
    require_whole(nodes, "stopped", said, tmp_path)


def test_the_head_is_lost_with_its_disk_in_the_middle_of_a_search(nodes: Cloud, tmp_path: Path) -> None:
    nodes.ensure(2, 3)
    command = study(nodes, "head-lost", epochs=8)
    process = nodes.head.start(*nodes.submit(*command))
    nodes.wait_for_trials("head-lost", 3, process)
    for machine in (nodes.head, *nodes.network.machines.values()):  # the nodes are of no use without it
        machine.kill()
    wait_for_end(process, 10)
    before = nodes.trials("head-lost")
    assert 3 <= len(before) < NUM_TRIALS
    nodes.ensure(2, 3)
    said = nodes.job(*command)
    after = nodes.trials("head-lost")
    assert {number: after[number]["began_at"] for number in before} == {
        number: trial["began_at"] for number, trial in before.items()
    }
    require_whole(nodes, "head-lost", said, tmp_path)


def test_a_folder_that_only_the_head_has_is_refused_before_any_work(nodes: Cloud) -> None:
    nodes.ensure(2, 3)
    command = study(nodes, "private", epochs=2)
    began = time.monotonic()
    said = nodes.job(*command, "--out", nodes.network.disk / "out", status=1)
    print(f"refused {time.monotonic() - began:.1f} s after `ray job submit`, of which a job needs some to start")
    assert "CFG-SHARED" in said
    assert "10.77.0.2 (node2), 10.77.0.3 (node3)" in said
    assert "s3://bucket/x" in said
    assert "a file system that all nodes mount" in said
    assert not nodes.head.has(nodes.network.disk / "out" / "features")
    assert not nodes.head.has(nodes.network.disk / "out" / "studies")


def test_a_folder_that_all_nodes_mount_does_as_well(nodes: Cloud) -> None:
    nodes.ensure(2, 3)
    out = nodes.network.shared / "out"
    said = nodes.job(*study(nodes, "shared", epochs=2), "--trials", 2, "--out", out)
    assert "shared: 2 of 2 trials" in said
    assert (out / "studies" / "shared" / "best" / "model" / "model.safetensors").exists()
    wait_for(lambda: not list(out.glob(".nonce-*")))
