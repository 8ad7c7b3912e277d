"""An MLflow server that is killed, or refuses the login, while a study or a training logs to it: nothing is lost."""

from __future__ import annotations

import importlib.util
import pickle
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from affectgrid.analysis.summary import StudySummary
from affectgrid.distributed.train.run import TrainResult, train
from affectgrid.distributed.tune import finalize
from affectgrid.distributed.tune import run as study_run
from affectgrid.distributed.tune.mlflow_logger import StudyLog
from affectgrid.distributed.tune.run import tune
from affectgrid.errors import TrackingError
from affectgrid.search.space.reading import parse_space
from affectgrid.tracking import delivery, open_tracker
from support.mlflow_server import MlflowServer, gate
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


def check_complete(uri: str, summary: StudySummary) -> None:
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
    drawn = {folder: {path.name for path in (summary.folder / folder).glob("*.png")} for folder in ("best", "search")}
    assert files(client, root.info.run_id, "figures") == drawn["best"] | drawn["search"] > {"plane.png"}
    assert files(client, best, "figures") == drawn["best"]
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


USER, PASSWORD = "ann", "open:sesame/9"
LOGIN = "ann:open%3Asesame%2F9"


@pytest.fixture
def no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """No login in the environment; one that an address brings along is gone afterwards."""
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_login")
def test_a_login_in_the_address_is_used_and_shown_nowhere(server: MlflowServer, tmp_path: Path):
    with gate(server.uri, USER, PASSWORD) as guarded:
        with pytest.raises(TrackingError, match=r"TRK-AUTH http://127\S+: .*401.*MLFLOW_TRACKING_USERNAME"):
            open_tracker(f"http://{guarded.address}")
        with pytest.raises(TrackingError, match="TRK-AUTH") as caught:
            open_tracker(f"http://{USER}:wrong-secret@{guarded.address}")
        assert "wrong-secret" not in str(caught.value)

        tracker = open_tracker(f"http://{LOGIN}@{guarded.address}", "guarded")
        assert tracker.uri == f"http://{guarded.address}"
        run = tracker.study("study", {}, {})
        run.metrics({"val/p": 0.1}, step=1)
        guarded.authorization = "Basic changed"
        with pytest.raises(TrackingError, match="TRK-AUTH"):  # a refusal is no outage: it is told
            run.metrics({"val/p": 0.2}, step=2)
        (waiting,) = spooled(tmp_path)
        assert "sesame" not in waiting.read_text()
    with gate(server.uri, USER, PASSWORD, port=guarded.server_address[1]):
        assert run.deliver()  # nothing of it was lost
        history = MlflowClient(tracker.uri).get_metric_history(run.run_id, "val/p")
        assert [(m.step, m.value) for m in history] == [(1, 0.1), (2, 0.2)]


@pytest.mark.usefixtures("no_login")
def test_a_run_takes_the_login_to_another_process(server: MlflowServer, monkeypatch: pytest.MonkeyPatch):
    with gate(server.uri, USER, PASSWORD) as guarded:
        run = open_tracker(f"http://{LOGIN}@{guarded.address}", "guarded").study("study", {}, {})
        sent = pickle.dumps(run)
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
        monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
        pickle.loads(sent).metrics({"val/p": 0.1}, step=1)
        assert MlflowClient(run.uri).get_run(run.run_id).data.metrics == {"val/p": 0.1}


@pytest.mark.usefixtures("no_login")
@pytest.mark.skipif(importlib.util.find_spec("flask_wtf") is None, reason="basic-auth needs Flask-WTF")
def test_mlflows_own_login(tmp_path: Path):
    config = tmp_path / "auth.ini"
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{tmp_path}/auth.db\nadmin_username = {USER}\n"
        "admin_password = a-long-password-9\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = {"MLFLOW_FLASK_SERVER_SECRET_KEY": "key", "MLFLOW_AUTH_CONFIG_PATH": str(config)}
    with MlflowServer(tmp_path, "--app-name", "basic-auth", environment=environment) as server:
        address = server.uri.removeprefix("http://")
        with pytest.raises(TrackingError, match=r"TRK-AUTH .*401"):
            open_tracker(server.uri)
        with pytest.raises(TrackingError, match=r"TRK-AUTH .*401"):
            open_tracker(f"http://{USER}:wrong@{address}")
        tracker = open_tracker(f"http://{USER}:a-long-password-9@{address}", "own")
        run = tracker.study("study", {"lr": 1}, {})
        assert MlflowClient(tracker.uri).get_run(run.run_id).data.params == {"lr": "1"}


@pytest.mark.usefixtures("ray_cluster", "no_login")
def test_a_study_that_mlflow_refuses_ends_with_an_error_and_the_same_command_logs_it(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    study = Study(tmp_path, monkeypatch)
    with gate(server.uri, USER, PASSWORD) as guarded:
        address, right = f"http://{LOGIN}@{guarded.address}", guarded.authorization

        def revoke() -> None:
            guarded.authorization = "Basic changed"

        with pytest.raises(TrackingError, match="TRK-AUTH"):
            study.run(address, {"end 2": revoke})
        assert StudySummary.read(tmp_path / "small").num_failed == 0  # the search itself went on to its end
        guarded.authorization = right
        check_complete(server.uri, study.run(address))
