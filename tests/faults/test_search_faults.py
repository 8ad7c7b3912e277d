"""Faults of a search, caused for real: killed drivers, killed workers. No trial is lost, and none is there twice."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState
from ray.cluster_utils import Cluster

from affectgrid.search.study.journal import open_journal
from support.processes import Family, family, wait_until

DRIVER = "support.study_driver"
LONG_TRIALS = {"model.hidden_dim": 32, "window.length": 24, "window.stride": 8, "optim.epochs": 60}


def records(storage: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted((storage / "small" / "trials").glob("*/trial.json"))]


def check_whole(storage: Path, num_trials: int) -> None:
    """Every trial once, everywhere, and none left running."""
    ended = records(storage)
    assert [record["number"] for record in ended] == list(range(num_trials))
    assert {record["state"] for record in ended} == {"complete"}
    stored = optuna.load_study(study_name="small", storage=open_journal(storage / "small" / "study.journal"))
    assert [(trial.number, trial.state) for trial in stored.trials] == [
        (number, TrialState.COMPLETE) for number in range(num_trials)
    ]
    assert [trial.value for trial in stored.trials] == [record["objective"] for record in ended]
    values = [json.dumps(record["params"]) for record in ended]
    assert len(set(values)) == num_trials  # a sampler that began again would repeat itself
    summary = json.loads((storage / "small" / "summary.json").read_text())
    best = max(ended, key=lambda record: record["objective"])
    package = storage / "small" / "trials" / f"{best['number']:05d}" / "seed-0"
    assert (package / "model.safetensors").exists()
    assert len(summary["trials"]) == num_trials
    client = MlflowClient(tracking_uri=f"sqlite:///{storage}/mlflow.db")
    experiment = client.get_experiment_by_name("planted").experiment_id
    runs = [run for run in client.search_runs([experiment]) if "trial" in run.data.tags]
    assert sorted(int(run.data.tags["trial"]) for run in runs) == list(range(num_trials))
    assert {run.info.status for run in runs} == {"FINISHED"}


def kill_driver(group: Family, storage: Path, arguments: list[str], *, num_ended: int, after_s: float) -> None:
    """Start the study and kill its driver, with all that belongs to it, some time after a number of trials ended."""
    driver = group.start(DRIVER, arguments)
    wait_until(lambda: len(records(storage)) >= num_ended, alive=driver)
    time.sleep(after_s)  # the moment of the kill is meant to be any
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    group.end()


def test_kill_of_the_driver_and_the_same_command_again(short_tmp: Path):
    draw = random.Random(11)
    storage = short_tmp / "s"
    # trials of several seconds, so that half a second after the fourth there are some that have not begun
    arguments = [str(storage), "--space", json.dumps({"trials": 8, "constants": LONG_TRIALS})]
    with family(short_tmp / "r") as group:
        kill_driver(group, storage, arguments, num_ended=draw.randint(1, 4), after_s=draw.uniform(0, 0.5))
        before = records(storage)
        assert 0 < len(before) < 8
        group.run(DRIVER, arguments)
    check_whole(storage, 8)
    assert [record for record in records(storage) if record in before] == before  # what had ended was not run again


@pytest.mark.long
def test_kill_before_the_first_trial_starts_afresh(short_tmp: Path):
    storage = short_tmp / "s"
    with family(short_tmp / "r") as group:
        driver = group.start(DRIVER, [str(storage)])
        wait_until(lambda: (storage / "small" / "space.json").exists(), alive=driver)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        group.end()
        assert records(storage) == []
        group.run(DRIVER, [str(storage)])
    check_whole(storage, 6)


def test_kill_of_a_worker_in_the_middle_of_a_trial(short_tmp: Path):
    storage = short_tmp / "s"
    constants = {"model.hidden_dim": 32, "window.length": 24, "window.stride": 8, "optim.epochs": 150}
    changes = {"trials": 3, "constants": constants}

    with family(short_tmp / "r") as group:
        driver = group.start(DRIVER, [str(storage), "--space", json.dumps(changes)])
        wait_until(lambda: bool(group.members("ImplicitFunc.train")), alive=driver)  # Ray's name of a trial at work
        group.members("ImplicitFunc")[0].kill()
        out, err = driver.communicate(timeout=240)
        assert driver.returncode == 0, err[-4000:]
    check_whole(storage, 3)
    assert "3 of 3 trials" in out
    assert max(int(str(record["attempts"])) for record in records(storage)) == 2


@pytest.mark.long
def test_two_drivers_on_one_study(short_tmp: Path):
    storage = short_tmp / "s"
    with family(short_tmp / "r") as group:
        asked = [str(storage), "--space", json.dumps({"constants": LONG_TRIALS})]  # the first must not end meanwhile
        first = group.start(DRIVER, asked)
        wait_until(lambda: (storage / "small" / "space.json").exists(), alive=first)
        second = group.start(DRIVER, asked)
        _, err = second.communicate(timeout=240)
        assert second.returncode != 0
        assert "STUDY-BUSY" in err
        _, err = first.communicate(timeout=240)
        assert first.returncode == 0, err[-4000:]
    check_whole(storage, 6)


@contextlib.contextmanager
def cluster_of(group: Family, monkeypatch: pytest.MonkeyPatch, num_nodes: int) -> Iterator[Cluster]:
    """A head without cores and some nodes with one core each, whose processes belong to the family."""
    with monkeypatch.context() as patch:
        for name, value in group.environment().items():
            patch.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(num_nodes):
            cluster.add_node(num_cpus=1)
        try:
            yield cluster
        finally:
            cluster.shutdown()


@pytest.mark.long
def test_loss_of_a_node_in_the_middle_of_a_trial(short_tmp: Path, monkeypatch: pytest.MonkeyPatch):
    storage = short_tmp / "s"
    changes = json.dumps({"trials": 4, "constants": LONG_TRIALS})
    with family(short_tmp / "r") as group, cluster_of(group, monkeypatch, 2) as cluster:
        driver = group.start(DRIVER, [str(storage), "--space", changes, "--address", cluster.address])
        wait_until(lambda: len(group.members("ImplicitFunc.train")) == 2, alive=driver)  # one on each node
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
        out, err = driver.communicate(timeout=240)
        assert driver.returncode == 0, err[-4000:]
    check_whole(storage, 4)
    assert "4 of 4 trials" in out
    assert sorted(int(str(record["attempts"])) for record in records(storage)) == [1, 1, 1, 2]


def most_at_once(storage: Path) -> int:
    """How many trials were under way at one moment."""
    spans = [
        (float(str(one["began_at"])), float(str(one["began_at"])) + float(str(one["duration_s"])))
        for one in records(storage)
    ]
    return max(sum(began <= moment < ended for began, ended in spans) for moment, _ in spans)


@pytest.mark.long
def test_a_search_follows_a_cluster_that_grows_and_shrinks(short_tmp: Path, monkeypatch: pytest.MonkeyPatch):
    storage = short_tmp / "s"
    changes = json.dumps({"trials": 16, "constants": LONG_TRIALS | {"optim.epochs": 150}})
    with family(short_tmp / "r") as group, cluster_of(group, monkeypatch, 1) as cluster:
        driver = group.start(DRIVER, [str(storage), "--space", changes, "--address", cluster.address])
        wait_until(lambda: len(group.members("ImplicitFunc.train")) == 1, alive=driver)
        added = [cluster.add_node(num_cpus=1) for _ in range(3)]
        wait_until(lambda: len(group.members("ImplicitFunc.train")) == 4, alive=driver)
        wait_until(lambda: len(records(storage)) >= 5, alive=driver)
        for node in added:
            cluster.remove_node(node, allow_graceful=False)
        out, err = driver.communicate(timeout=400)
        assert driver.returncode == 0, err[-4000:]
    check_whole(storage, 16)
    assert "16 of 16 trials" in out
    assert most_at_once(storage) >= 3  # of a trial that lost its node, the records tell the second run alone
    assert 1 <= sum(int(str(record["attempts"])) == 2 for record in records(storage)) <= 3


@pytest.mark.long
def test_trials_of_two_workers_follow_a_cluster_that_grows(short_tmp: Path, monkeypatch: pytest.MonkeyPatch):
    storage = short_tmp / "s"
    changes = json.dumps({"trials": 4, "constants": LONG_TRIALS | {"optim.epochs": 100}})
    arguments = [str(storage), "--space", changes, "--workers", "2", "--address"]
    with family(short_tmp / "r") as group, cluster_of(group, monkeypatch, 2) as cluster:
        driver = group.start(DRIVER, [*arguments, cluster.address])
        wait_until(lambda: bool(group.members("ImplicitFunc.train")), alive=driver)
        assert len(group.members("ImplicitFunc.train")) == 1
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        _, err = driver.communicate(timeout=400)
        assert driver.returncode == 0, err[-4000:]
    check_whole(storage, 4)
    assert most_at_once(storage) == 2


@pytest.mark.long
def test_loss_of_the_whole_cluster_and_the_same_command_on_another(short_tmp: Path, monkeypatch: pytest.MonkeyPatch):
    storage = short_tmp / "s"
    arguments = [str(storage), "--space", json.dumps({"trials": 5, "constants": LONG_TRIALS}), "--address"]
    with family(short_tmp / "r") as group:
        with cluster_of(group, monkeypatch, 2) as cluster:
            driver = group.start(DRIVER, [*arguments, cluster.address])
            wait_until(lambda: len(records(storage)) >= 1, alive=driver)
        driver.communicate(timeout=240)  # it ends by itself: its cluster is gone
        assert driver.returncode != 0
        group.end()
        before = records(storage)
        assert 0 < len(before) < 5
        with cluster_of(group, monkeypatch, 2) as cluster:
            group.run(DRIVER, [*arguments, cluster.address])
    check_whole(storage, 5)
    assert [record for record in records(storage) if record in before] == before


@pytest.mark.long
def test_an_extension_survives_a_kill_and_is_added_once(short_tmp: Path):
    storage = short_tmp / "s"
    arguments = [str(storage), "--space", json.dumps({"trials": 3}), "--extend", "3"]
    with family(short_tmp / "r") as group:
        group.run(DRIVER, arguments)  # nothing was done yet: the study, without its extension
        check_whole(storage, 3)
        kill_driver(group, storage, arguments, num_ended=4, after_s=0)
        group.run(DRIVER, arguments)
    check_whole(storage, 6)


@pytest.mark.long
def test_a_confirmation_survives_a_kill_of_the_driver(short_tmp: Path):
    storage = short_tmp / "s"
    learnt = {"optim.lr": {"float": [1e-3, 3e-2], "log": True}}
    points = [{"optim.lr": 0.01}]  # better than the default, whatever the seed
    space = {"trials": 2, "constants": LONG_TRIALS, "space": learnt, "points": points}
    arguments = [str(storage), "--space", json.dumps(space), "--confirm", "3"]

    def confirmed() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (storage / "small" / "confirm").glob("*/seed-*.json")}

    with family(short_tmp / "r") as group:
        driver = group.start(DRIVER, arguments)
        wait_until(lambda: len(confirmed()) >= 2, alive=driver)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        group.end()
        before = confirmed()
        assert 2 <= len(before) < 6
        group.run(DRIVER, arguments)
    after = confirmed()
    assert len(after) == 6  # the winner and the default, three seeds each
    assert {path: after[path] for path in before} == before  # what had ended was not run again
    client = MlflowClient(tracking_uri=f"sqlite:///{storage}/mlflow.db")
    experiment = client.get_experiment_by_name("planted").experiment_id
    confirms = [run for run in client.search_runs([experiment]) if "confirms" in run.data.tags]
    assert len(confirms) == 2
    seeds = [run for run in client.search_runs([experiment]) if run.data.tags["mlflow.runName"].startswith("seed ")]
    assert len(seeds) == 6
    assert {run.info.status for run in [*confirms, *seeds]} == {"FINISHED"}
    summary = json.loads((storage / "small" / "summary.json").read_text())
    assert len(summary["confirmation"]["winner"]["runs"]) == 3


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_twelve_kills_of_the_driver_at_random_times(short_tmp: Path):
    draw = random.Random(3)
    storage = short_tmp / "s"
    arguments = [str(storage), "--space", json.dumps({"trials": 40})]
    with family(short_tmp / "r") as group:
        for _ in range(12):
            num_ended = min(39, len(records(storage)) + draw.randint(0, 3))
            kill_driver(group, storage, arguments, num_ended=num_ended, after_s=draw.uniform(0, 1.5))
        group.run(DRIVER, arguments)
    check_whole(storage, 40)
