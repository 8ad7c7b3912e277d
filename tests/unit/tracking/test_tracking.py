"""The experiment log against a real MLflow store."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from affectgrid.errors import TrackingError
from affectgrid.tracking import Point, Tracker, connection, delivery, open_tracker, records


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    folder = tmp_path_factory.mktemp("mlflow")
    return open_tracker(f"sqlite:///{folder}/mlflow.db", "experiment", artifacts=folder / "artifacts")


def client(tracker: Tracker):
    return connection.client(tracker.uri)


def test_importing_the_module_imports_no_mlflow():
    code = "import sys, affectgrid.tracking; sys.exit('mlflow' in sys.modules)"
    source = Path(connection.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=source, timeout=60).returncode == 0


def test_a_relative_database_and_its_artifacts_become_absolute(tmp_path, monkeypatch, tracker):
    monkeypatch.chdir(tmp_path)
    assert connection.absolute("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert connection.absolute("http://host:5000") == "http://host:5000"
    location = client(tracker).get_experiment(tracker.experiment_id).artifact_location
    assert location.startswith("file:///")


def test_a_study_with_children_is_written_and_found_again(tracker):
    study = tracker.study("study", {"lr": 0.1}, {"commit": "abc"})
    trial = tracker.child(study, "trial-1", "trial 1")
    trial = pickle.loads(pickle.dumps(trial))  # it travels to workers
    for epoch in (1, 2):
        trial.metrics({"val/p": epoch / 10, "lr": 0.1}, step=epoch)
    trial.finish()

    run = client(tracker).get_run(trial.run_id)
    assert run.data.tags["mlflow.parentRunId"] == study.run_id
    assert run.data.metrics["val/p"] == 0.2
    assert run.info.status == "FINISHED"
    assert [m.value for m in client(tracker).get_metric_history(trial.run_id, "val/p")] == [0.1, 0.2]

    again = tracker.child(study, "trial-1", "trial 1")
    assert again.run_id == trial.run_id
    assert client(tracker).get_run(trial.run_id).info.status == "RUNNING"
    assert tracker.child(study, "trial-2", "trial 2").run_id != trial.run_id


def test_the_same_trial_number_of_two_studies_is_two_runs(tracker):
    one, other = (tracker.study(name, {}, {}) for name in ("it's one", "other"))
    assert tracker.study("it's one", {}, {}).run_id == one.run_id
    assert tracker.child(one, "0", "t").run_id != tracker.child(other, "0", "t").run_id


def test_resuming_a_study_closes_the_runs_that_a_kill_left_running(tracker):
    study = tracker.study("killed", {}, {})
    orphan = tracker.child(study, "0", "0")
    tracker.study("killed", {}, {})
    assert client(tracker).get_run(orphan.run_id).info.status == "KILLED"


def test_a_parameter_with_another_value_keeps_the_first_and_tags_the_second(tracker, caplog):
    run = tracker.study("changed", {"lr": 0.1, "depth": 1}, {})
    run.params({"lr": 0.2, "depth": 1, "new": "x" * 9000})
    data = client(tracker).get_run(run.run_id).data
    assert data.params["lr"] == "0.1"
    assert data.tags["changed.lr"] == "0.2"
    assert "changed.depth" not in data.tags
    assert len(data.params["new"]) == 6000
    assert "parameters changed" in caplog.text


def test_more_than_one_request_holds(tracker):
    run = tracker.study("many", {f"p{i}": i for i in range(250)}, {f"t{i}": i for i in range(150)})
    run.metrics({f"m{i}": float(i) for i in range(1100)}, step=1)
    data = client(tracker).get_run(run.run_id).data
    assert (len(data.params), len(data.metrics)) == (250, 1100)
    assert data.tags["t149"] == "149"


def test_points_of_many_steps_are_one_request_and_keep_their_times(tracker, monkeypatch):
    run = tracker.study("points", {}, {})
    sent = []
    monkeypatch.setattr(delivery, "apply", lambda uri, record: (sent.append(record["op"]), records.apply(uri, record)))
    run.points([Point(epoch, {"val/p": epoch / 10, "lr": 0.1}, 1000 * epoch) for epoch in (1, 2, 3)])
    history = client(tracker).get_metric_history(run.run_id, "val/p")
    assert [(m.step, m.value, m.timestamp) for m in history] == [(1, 0.1, 1000), (2, 0.2, 2000), (3, 0.3, 3000)]
    assert sent == ["write"]


def test_artifacts_are_copied(tracker, tmp_path):
    (tmp_path / "table.md").write_text("a table")
    run = tracker.study("artifacts", {}, {})
    run.artifact(tmp_path / "table.md", "tables")
    run.artifact(tmp_path, "whole")
    names = {f.path for folder in ("tables", "whole") for f in client(tracker).list_artifacts(run.run_id, folder)}
    assert names == {"tables/table.md", "whole/table.md"}


def test_a_missing_artifact_is_an_error_and_not_an_outage(tracker, tmp_path):
    with pytest.raises(FileNotFoundError):
        tracker.study("artifacts", {}, {}).artifact(tmp_path / "absent.png")


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """MLflow cannot be reached, until it is undone. A server that really goes away is in tests/faults."""
    monkeypatch.setattr(delivery, "_RETRY_AFTER_S", 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "apply", _refuse)
        yield patch


def _refuse(uri: str, record: object) -> None:
    raise sqlite3.OperationalError("database is locked")


def kept(tracker: Tracker) -> list[dict[str, object]]:
    return [json.loads(line) for file in tracker.spool.glob("*.jsonl") for line in file.read_text().split("\n") if line]


def test_what_an_outage_kept_back_is_delivered_once_and_in_order(tracker, monkeypatch, tmp_path):
    run = tracker.study("outage", {}, {})
    run.metrics({"val/p": 0.1}, step=1)
    (tmp_path / "figure.txt").write_text("figure")
    with monkeypatch.context() as outage:
        outage.setattr(delivery, "_RETRY_AFTER_S", 0.0)
        outage.setattr(delivery, "apply", _refuse)
        run.metrics({"val/p": 0.2}, step=2)
        run.artifact(tmp_path / "figure.txt")
    (tmp_path / "figure.txt").unlink()
    assert [record["op"] for record in kept(tracker)] == ["write", "artifact"]
    assert not run.delivered

    run.metrics({"val/p": 0.3}, step=3)
    history = client(tracker).get_metric_history(run.run_id, "val/p")
    assert [(m.step, m.value) for m in history] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert [f.path for f in client(tracker).list_artifacts(run.run_id)] == ["figure.txt"]
    assert run.delivered
    assert not [path for path in tracker.spool.iterdir() if path.suffix != ".lock"]


def test_a_study_and_its_children_that_begin_in_an_outage_are_made_afterwards_once(tracker, outage):
    study = tracker.study("late", {"lr": 0.1}, {"commit": "abc"})
    trial = tracker.child(study, "0", "trial 0", params={"depth": 2}, new=True)
    seed = pickle.loads(pickle.dumps(tracker.child(trial, "seed-0", "seed 0")))
    seed.metrics({"val/p": 0.5}, step=1)
    for run in (seed, trial, study):
        run.finish()
    with pytest.raises(LookupError, match="no run late"):
        str(trial.page)
    assert seed.steps("val/p") is None
    outage.undo()

    waiting = next(tracker.spool.glob("*.jsonl")).read_bytes()
    assert study.deliver()
    (tracker.spool / "again.jsonl").write_bytes(waiting)  # as after a kill between the delivery and its end
    delivery.deliver_all(tracker.uri, tracker.spool)
    runs = [client(tracker).get_run(run.run_id) for run in (study, trial, seed)]
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    assert [run.data.tags.get("mlflow.parentRunId") for run in runs] == [None, study.run_id, trial.run_id]
    assert (runs[0].data.params, runs[1].data.params) == ({"lr": "0.1"}, {"depth": "2"})
    assert [m.value for m in client(tracker).get_metric_history(seed.run_id, "val/p")] == [0.5]
    assert trial.page == f"#/experiments/{tracker.experiment_id}/runs/{trial.run_id}"
    below = [f"tags.`mlflow.parentRunId` = '{parent.run_id}'" for parent in (study, trial)]
    assert [len(client(tracker).search_runs([tracker.experiment_id], one)) for one in below] == [1, 1]
    assert tracker.study("late", {}, {}).run_id == study.run_id


def test_a_run_whose_creation_timed_out_is_not_made_again(tracker, monkeypatch):
    """The server made it, and the answer was lost."""
    study = tracker.study("timed out", {}, {})

    def lose_the_answer(uri, record):
        records.apply(uri, record)
        raise TimeoutError

    with monkeypatch.context() as outage:
        outage.setattr(delivery, "_RETRY_AFTER_S", 0.0)
        outage.setattr(delivery, "apply", lose_the_answer)
        trial = tracker.child(study, "0", "trial 0", new=True)
    assert trial.deliver()
    below = f"tags.`mlflow.parentRunId` = '{study.run_id}'"
    assert len(client(tracker).search_runs([tracker.experiment_id], below)) == 1


def test_values_that_a_reopened_run_has_are_not_logged_again_and_others_are(tracker):
    tracker.study("reopened", {}, {}).points([Point(1, {"val/p": 0.1, "nan": math.nan}), Point(2, {"val/p": 0.2})])
    again = tracker.study("reopened", {}, {})
    again.points([Point(epoch, {"val/p": epoch / 10, "nan": math.nan}) for epoch in (1, 2, 3)])
    again.metrics({"val/p": 0.4}, step=3)
    history = client(tracker).get_metric_history(again.run_id, "val/p")
    assert [(m.step, m.value) for m in history] == [(1, 0.1), (2, 0.2), (3, 0.3), (3, 0.4)]
    assert sorted(m.step for m in client(tracker).get_metric_history(again.run_id, "nan")) == [1, 2, 3]


def test_a_record_that_mlflow_refuses_holds_back_nothing_that_waits_behind_it(tracker, outage, caplog):
    run = tracker.study("refused", {}, {})
    run.metrics({"no\nname": 0.1}, step=1)
    run.metrics({"val/p": 0.2}, step=1)
    outage.undo()
    assert run.deliver()
    assert client(tracker).get_run(run.run_id).data.metrics == {"val/p": 0.2}
    assert "refuses a record" in caplog.text


def test_half_a_line_that_a_kill_left_is_passed_over_and_the_next_is_whole(tracker, outage):
    run = tracker.study("torn", {}, {})
    run.metrics({"val/p": 0.5}, step=1)
    (file,) = tracker.spool.glob("*.jsonl")
    with file.open("a") as torn:
        torn.write('\n{"op": "wri')
    run.metrics({"val/p": 0.6}, step=2)
    outage.undo()
    delivery.deliver_all(tracker.uri, tracker.spool)
    assert [m.value for m in client(tracker).get_metric_history(run.run_id, "val/p")] == [0.5, 0.6]


def test_a_server_that_is_not_there_is_named_with_the_way_to_start_it():
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    before = time.monotonic()
    with pytest.raises(TrackingError, match=rf"TRK-UNREACHABLE {uri}.*mlflow server --port"):
        open_tracker(uri)
    assert time.monotonic() - before < 30


def test_a_server_that_takes_the_connection_and_never_answers_is_given_up(monkeypatch):
    with contextlib.closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        before = time.monotonic()
        with pytest.raises(TrackingError, match="TRK-UNREACHABLE"):
            open_tracker(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - before < 30


def test_a_database_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises((TrackingError), match="TRK-UNREACHABLE sqlite:///"):
        open_tracker(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_a_deleted_experiment_is_refused_with_the_way_to_restore_it(tracker):
    gone = open_tracker(tracker.uri, "gone")
    client(tracker).delete_experiment(gone.experiment_id)
    with pytest.raises(TrackingError, match=r"TRK-DELETED.*restore"):
        open_tracker(tracker.uri, "gone")
