"""An MLflow server that asks for a login: it is used, shown nowhere, and a refusal is told as one."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import pytest
from mlflow import MlflowClient

from affectgrid.analysis.summary import StudySummary
from affectgrid.errors import TrackingError
from affectgrid.tracking import open_tracker
from support.logged_study import Study, check_complete, spooled
from support.mlflow_server import MlflowServer, gate

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
