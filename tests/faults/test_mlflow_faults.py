"""An MLflow server that is killed while a study or a training logs to it: nothing is lost."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from affectgrid.distributed.train.run import TrainResult, train
from affectgrid.tracking import open_tracker
from support.logged_study import NUM_TRIALS, Study, check_complete, files, spooled
from support.mlflow_server import MlflowServer
from support.planted import planted_data, small_config


def test_what_is_logged_to_a_server_that_is_away_reaches_it_later(server: MlflowServer, tmp_path: Path):
    tracker = open_tracker(server.uri, "served")
    study = tracker.study("study", {"lr": 1}, {})
    study.metrics({"val/p": 0.1}, step=1)
    server.kill()
    (tmp_path / "figure.txt").write_text("figure")
    before = time.monotonic()
    study.metrics({"val/p": 0.2}, step=2)
    child = tracker.child(study, "0", "trial 0", params={"depth": 3})
    child.artifact(tmp_path / "figure.txt", "figures")
    child.finish()
    assert time.monotonic() - before < 30  # work is not held up
    server.start()
    client = MlflowClient(open_tracker(server.uri, "served").uri)  # delivers what was kept
    history = client.get_metric_history(study.run_id, "val/p")
    assert [(m.step, m.value) for m in history] == [(1, 0.1), (2, 0.2)]
    run = client.get_run(child.run_id)
    assert (run.info.status, run.data.params) == ("FINISHED", {"depth": "3"})
    assert [file.path for file in client.list_artifacts(child.run_id, "figures")] == ["figures/figure.txt"]
    assert spooled(tmp_path) == []


@pytest.mark.usefixtures("ray_cluster")
def test_a_server_that_comes_back_before_the_end_has_everything(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Killed before the second trial begins, so that its run and that of the third are made afterwards."""
    study = Study(tmp_path, monkeypatch)
    summary = study.run(server.uri, {"start 1": server.kill, "end 2": server.start})
    assert spooled(tmp_path) == []
    assert study.marks == {f"{number:05d}" for number in range(NUM_TRIALS)} | {"report.logged"}
    check_complete(server.uri, summary)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("moment", "machine"),
    [
        pytest.param("report", "kept"),
        pytest.param("report", "lost", marks=pytest.mark.long),
        pytest.param("start 1", "kept", marks=pytest.mark.long),
        pytest.param("start 1", "lost", marks=pytest.mark.long),
        pytest.param("end 2", "kept", marks=pytest.mark.long),
        pytest.param("end 2", "lost", marks=pytest.mark.long),
    ],
)
def test_the_same_command_sends_what_a_dead_server_lacks(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, machine: str
):
    """Killed before a trial begins, in one, before the report; with the spool, and without it."""
    study = Study(tmp_path, monkeypatch)
    summary = study.run(server.uri, {moment: server.kill})
    assert "report.logged" not in study.marks
    assert spooled(tmp_path) != []
    if machine == "lost":
        shutil.rmtree(tmp_path / "cache")
    server.start()
    assert study.run(server.uri).trials == summary.trials
    check_complete(server.uri, summary)
    assert study.marks == {f"{number:05d}" for number in range(NUM_TRIALS)} | {"report.logged"}


@pytest.mark.usefixtures("ray_cluster")
def test_a_training_whose_end_a_dead_server_missed_is_sent_by_the_same_command(server: MlflowServer, tmp_path: Path):
    def run() -> TrainResult:
        return train(small_config(), planted_data(), storage=tmp_path / "runs", name="one", tracker=tracker)

    tracker = open_tracker(server.uri, "training")
    server.kill()
    result = run()
    assert spooled(tmp_path) != []
    shutil.rmtree(tmp_path / "cache")  # what waited is lost with the machine
    server.start()
    assert run().history == result.history  # nothing is trained again
    client = MlflowClient(server.uri)
    (logged,) = client.search_runs([tracker.experiment_id])
    assert logged.info.status == "FINISHED"
    points = client.get_metric_history(logged.info.run_id, "val/p")
    assert [(m.step, m.value) for m in points] == [(row["epoch"], row["val/p"]) for row in result.history]
    assert logged.data.metrics["best/val/p"] == result.best["val/p"]
    assert "model.safetensors" in files(client, logged.info.run_id, "model")


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_what_a_lost_or_older_database_lacks_is_logged_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The marks in the study's place speak of runs that no longer exist."""
    old, new = (f"sqlite:///{tmp_path / name}/mlflow.db" for name in ("old", "new"))
    study = Study(tmp_path, monkeypatch)
    summary = study.run(old)
    assert study.run(new).trials == summary.trials
    check_complete(new, summary)
    # An older dump: the study's run and its first trials are there.
    client = MlflowClient(old)
    for run in client.search_runs(["1"], "tags.trial = '3'"):
        client.delete_run(run.info.run_id)
    assert study.run(old).trials == summary.trials
    check_complete(old, summary)

    def trained(uri: str) -> TrainResult:
        tracker = open_tracker(uri, "training")
        return train(small_config(), planted_data(), storage=tmp_path / "runs", name="one", tracker=tracker)

    result = trained(new)
    assert trained(f"{new}-2").history == result.history
    (logged,) = MlflowClient(f"{new}-2").search_runs(["1"])
    assert logged.data.metrics["best/val/p"] == result.best["val/p"]
