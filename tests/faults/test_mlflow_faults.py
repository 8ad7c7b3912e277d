"""An MLflow server that is killed, or refuses the login, while a study or a training logs to it: nothing is lost."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from affectgrid.analysis.summary import StudySummary
from affectgrid.distributed.train.run import train
from affectgrid.distributed.tune import finalize
from affectgrid.distributed.tune import run as study_run
from affectgrid.distributed.tune.mlflow_logger import StudyLog
from affectgrid.distributed.tune.run import tune
from affectgrid.errors import TrackingError
from affectgrid.search.space.reading import parse_space
from affectgrid.tracking import delivery, open_tracker
from support.mlflow_server import Gate, MlflowServer, gate
from support.planted import planted_data, small_config
from support.study_driver import SPACE

NUM_TRIALS = 4


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    monkeypatch.setenv("AFFECTGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(delivery, "_RETRY_AFTER_S", 0.0)
    with MlflowServer(tmp_path) as running:
        yield running


def spooled(folder: Path) -> list[Path]:
    return list((folder / "cache" / "mlflow-spool").rglob("*.jsonl"))


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


class Study:
    """A small search that logs to a server; `before` says what happens at its turning points."""

    def __init__(self, storage: Path, patch: pytest.MonkeyPatch) -> None:
        self.storage, self.patch = storage, patch

    def run(self, uri: str, before: dict[str, Callable[[], None]] | None = None) -> StudySummary:
        pending = dict(before or {})

        def at(moment: str) -> None:
            pending.pop(moment, lambda: None)()

        started, finished, report = StudyLog.started, StudyLog.finished, finalize.report
        counts = {"started": 0, "finished": 0}

        def on_started(log: StudyLog, assigned: Any) -> None:
            at(f"start {counts['started']}")
            counts["started"] += 1
            started(log, assigned)

        def on_finished(log: StudyLog, record: Any) -> None:
            at(f"end {counts['finished']}")
            counts["finished"] += 1
            finished(log, record)

        def on_report(*arguments: Any) -> None:
            at("report")
            report(*arguments)

        with self.patch.context() as patch:
            patch.setattr(StudyLog, "started", on_started)
            patch.setattr(StudyLog, "finished", on_finished)
            patch.setattr(study_run, "report", on_report)
            space = parse_space(SPACE | {"trials": NUM_TRIALS})
            summary = tune(space, planted_data(), storage=self.storage, tracker=open_tracker(uri, "study"))
        assert pending == {}
        return summary

    @property
    def marks(self) -> set[str]:
        """Of what MLflow has, as the study's place says."""
        return {path.name if path.name != "logged" else path.parent.name for path in self._marks()}

    def _marks(self) -> list[Path]:
        folder = self.storage / "small"
        return [*folder.glob("trials/*/logged"), *folder.glob("report.logged")]


def check_complete(uri: str, summary: StudySummary, user: str | None = None) -> None:
    """Every metric of every trial once, every parameter, and the artefacts of the report and of the best model."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("study").experiment_id
    runs = client.search_runs([experiment])
    trials = {int(run.data.tags["trial"]): run for run in runs if "trial" in run.data.tags}
    assert sorted(trials) == list(range(NUM_TRIALS))
    (root,) = [run for run in runs if "trial" not in run.data.tags]
    assert {run.info.status for run in runs} == {"FINISHED"}
    for record in summary.trials:
        run = trials[record.number]
        assert run.data.tags["mlflow.parentRunId"] == root.info.run_id
        assert float(run.data.params["optim.lr"]) == pytest.approx(record.params["optim.lr"])
        assert run.data.metrics["best/p"] == record.score("val/p")
        for name in record.seeds[0].history[0].keys() - {"epoch"}:
            logged = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
            assert logged == [(row["epoch"], row[name]) for row in record.seeds[0].history], name
    assert summary.best is not None
    best = trials[summary.best.number].info.run_id
    assert files(client, root.info.run_id, "report") == {"report.html", "summary.json"}
    assert {"plane.png", "slices.png"} <= files(client, root.info.run_id, "figures")
    assert "plane.png" in files(client, best, "figures")
    assert "model.safetensors" in files(client, best, "model")
    assert root.data.tags["best_trial"] == str(summary.best.number)


def files(client: MlflowClient, run_id: str, folder: str) -> set[str]:
    return {Path(file.path).name for file in client.list_artifacts(run_id, folder)}


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
@pytest.mark.parametrize("machine", ["kept", "lost"])
@pytest.mark.parametrize("moment", ["start 1", "end 2", "report"])
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
