"""Model packages as MLflow's models: what is loaded predicts the same, and everything is logged once."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils import environment, requirements_utils

from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.data.splits.resident import Split
from affectgrid.errors import ConfigError, TrackingError
from affectgrid.tracking import Tracker, connection, delivery, models, open_tracker
from affectgrid.training.build import build_model
from affectgrid.training.inference.details import frame_details
from affectgrid.training.inference.package import load_package, save_package
from affectgrid.training.inference.predict import predict_split
from support.planted import DIMS, planted_prompts, planted_split, small_config


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of features that no encoder made, at another rate than the frames'."""
    config, prompts = small_config(window__rate_hz=20.0, window__smooth_half_width=2), planted_prompts()
    model = build_model(config, dims=DIMS, prompts=prompts)
    folder = tmp_path_factory.mktemp("package") / "model"
    save_package(folder, model, config, prompts.grid, encoders={"visual": "planted"}, metrics={"val/p": 0.5})
    (folder / models.CARD).write_text("# A card")
    return folder


@pytest.fixture(scope="module")
def written(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_model(package, tmp_path_factory.mktemp("written") / "model")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, which take it seconds to make."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    open_tracker(f"sqlite:///{path}")
    return path


@pytest.fixture
def tracker(tmp_path: Path, database: Path) -> Tracker:
    shutil.copy(database, tmp_path / "mlflow.db")
    return open_tracker(f"sqlite:///{tmp_path}/mlflow.db", "experiment")


def features_of(split: Split, number: int) -> dict[str, object]:
    """A track as the model's input: zeros where it lacks a stream."""
    rows = split.track(number)
    columns = {
        f"{name}.feature": np.where(stream.present[rows, None], stream.feature[rows], 0).astype(np.float32)
        for name, stream in split.streams.items()
    }
    return {"track": split.track_ids[number], "time_s": split.time_s[rows], **columns}


def test_a_loaded_model_gives_every_frame_of_each_track_what_the_package_gives(package: Path, written: Path):
    split = planted_split("validation", [30, 12])
    table = mlflow.pyfunc.load_model(str(written)).predict(pd.DataFrame([features_of(split, n) for n in range(2)]))
    own = load_package(package)
    expected = predict_split(own.model, split, own.config.window).va.numpy()
    np.testing.assert_allclose(table[["valence", "arousal"]], expected, atol=1e-6)  # another batch of windows
    for name, column in frame_details(own, split).items():
        np.testing.assert_allclose(table[name], column, atol=1e-6)
    assert table["track"].tolist() == ["validation-0"] * 30 + ["validation-1"] * 12
    assert table["input"].tolist() == [0] * 30 + [1] * 12
    assert table["frame"].tolist() == [*range(1, 31), *range(1, 13)]
    promised = mlflow.models.get_model_info(str(written)).signature.outputs
    assert [*table.columns] == [column.name for column in promised if column.required]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([{"visual.feature": [[1.0, 2.0]]}], r"PRED-INPUT .*visual.feature: an array of shape \[1, 2\]"),
        ([{"time_s": [0.0]}], "PRED-INPUT .*no features; expected one of visual.feature, audio.feature"),
        ([{"visual.feature": [[1.0] * 6], "audio.feature": [[1.0] * 4] * 2}], "PRED-INPUT .*'audio': 2"),
        ([{"visual.feature": [[1e6] * 6]}], "PRED-INPUT .*half precision"),
        (["clip.mp4"], "PRED-INPUT .*no row with a column of the signature"),
    ],
)
def test_input_that_is_none_is_refused_with_a_code(written: Path, given: list[object], message: str):
    with pytest.raises(MlflowException, match=message):
        mlflow.pyfunc.load_model(str(written)).predict(given)


def test_a_model_holds_its_code_and_pins_what_it_needs(written: Path):
    assert (written / "code" / "affectgrid" / "model" / "fusion.py").exists()
    assert (written / "README.md").read_text() == "# A card"
    assert {path.name for path in (written / "artifacts").rglob("*.*")} > {"model.safetensors", "grid.json"}
    pins = dict(line.split("==") for line in (written / "requirements.txt").read_text().splitlines())
    assert {"mlflow", "torch", "numpy", "pandas"} <= pins.keys()
    assert not {"ray", "av", "transformers"} & pins.keys()  # it reads no videos
    assert "+" not in pins["torch"]


def test_pins_are_not_checked_against_what_they_were_taken_from(package: Path, tmp_path: Path, monkeypatch):
    read: list[object] = []
    monkeypatch.setattr(requirements_utils, "_check_requirement_satisfied", read.append)
    before = environment.warn_dependency_requirement_mismatches
    models.write_model(package, tmp_path / "model")
    assert read == []
    environment.warn_dependency_requirement_mismatches(["torch==0.1"])  # as before, for the models of others
    assert read == ["torch==0.1"]
    assert environment.warn_dependency_requirement_mismatches is before


def log(tracker: Tracker, package: Path, register: str | None = None) -> str:
    run = tracker.study("study", {"lr": 0.1}, {})
    run.model(package, {"p": 0.5}, name="study: trial 1", register=register)
    return run.run_id


def logged(tracker: Tracker) -> list[mlflow.entities.LoggedModel]:
    return list(connection.client(tracker.uri).search_logged_models([tracker.experiment_id]))


def test_a_logged_model_is_one_of_its_run_and_is_logged_once(tracker: Tracker, package: Path):
    run_id = log(tracker, package)
    assert log(tracker, package) == run_id
    (model,) = logged(tracker)
    assert model.tags["mlflow.note.content"] == "# A card"
    assert (model.name, model.status.value, model.source_run_id) == ("study- trial 1", "READY", run_id)
    assert {metric.key: metric.value for metric in model.metrics} == {"model/p": 0.5}
    assert model.params == {"lr": "0.1"}
    run = connection.client(tracker.uri).get_run(run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    mlflow.set_tracking_uri(tracker.uri)
    loaded = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
    assert loaded.metadata.run_id == run_id


def test_what_a_kill_left_half_logged_is_logged_again(tracker: Tracker, package: Path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_outputs", interrupted)
        with pytest.raises(KeyboardInterrupt):
            log(tracker, package)
    assert [model.status.value for model in logged(tracker)] == ["PENDING"]
    log(tracker, package)
    assert [model.status.value for model in logged(tracker)] == ["READY"]


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_registered_model_is_the_champion_until_another_is(tracker: Tracker, package: Path, tmp_path: Path):
    for _ in range(2):
        log(tracker, package, register="affect")
    client = connection.client(tracker.uri)
    (version,) = client.search_model_versions("name = 'affect'")
    assert (int(version.version), version.description) == (1, "# A card")
    config, prompts = small_config(seed=1), planted_prompts()
    model = build_model(config, dims=DIMS, prompts=prompts)
    other = save_package(tmp_path / "other", model, config, prompts.grid, encoders={}, metrics={})
    log(tracker, other, register="affect")
    champion = client.get_model_version_by_alias("affect", models.CHAMPION)
    assert int(champion.version) == 2
    mlflow.set_tracking_uri(tracker.uri)
    split = planted_split("validation", [30])
    table = mlflow.pyfunc.load_model("models:/affect@champion").predict(pd.DataFrame([features_of(split, 0)]))
    expected = predict_split(model, split, config.window).va.numpy()
    np.testing.assert_array_equal(table[["valence", "arousal"]].to_numpy(np.float32), expected)


def test_a_model_that_an_outage_kept_back_is_delivered_afterwards(tracker: Tracker, package: Path, monkeypatch):
    run = tracker.study("study", {}, {})
    monkeypatch.setattr(delivery, "_RETRY_AFTER_S", 0.0)
    with monkeypatch.context() as outage:
        outage.setattr(delivery, "apply", lambda *_: unreachable())
        run.model(package, {"p": 0.5}, name="late", register="affect")
        assert not run.delivered
    assert logged(tracker) == []
    assert run.deliver()
    assert [model.name for model in logged(tracker)] == ["late"]
    assert int(connection.client(tracker.uri).get_model_version_by_alias("affect", models.CHAMPION).version) == 1


def unreachable() -> None:
    raise sqlite3.OperationalError("database is locked")


@pytest.mark.parametrize("address", ["models:/affect@champion", "models:/affect/1", "logged"])
def test_a_package_is_fetched_by_its_address(tracker: Tracker, package: Path, address: str, monkeypatch, tmp_path):
    monkeypatch.setenv("AFFECTGRID_CACHE", str(tmp_path / "cache"))
    log(tracker, package, register="affect")
    if address == "logged":
        address = f"models:/{logged(tracker)[0].model_id}"
    folder = tracker.fetch_model(address)
    assert (folder / "model.safetensors").read_bytes() == (package / "model.safetensors").read_bytes()
    assert load_package(folder).config == load_package(package).config
    (folder / "kept").touch()
    assert (tracker.fetch_model(address) / "kept").exists()  # it is not fetched again


@pytest.mark.parametrize(
    "address", ["models:/affect@champion", "models:/affect/7", "models:/m-0123", "models:/affect/latest"]
)
def test_a_model_that_is_not_there_is_told(tracker: Tracker, address: str):
    with pytest.raises(TrackingError, match=f"TRK-MODEL {address}"):
        tracker.fetch_model(address)


def test_a_store_without_a_registry_is_told_before_any_work(tracker: Tracker):
    tracker.require_registry()
    with sqlite3.connect(tracker.uri.removeprefix("sqlite:///")) as connection:
        connection.execute("DROP TABLE registered_models")
    with pytest.raises(ConfigError, match=r"CFG-REGISTRY .*leave --register out"):
        tracker.require_registry()


def test_a_model_that_is_registered_later_takes_its_encoders_along_after_all(tracker: Tracker, tmp_path: Path):
    (tmp_path / "tower").mkdir()
    (tmp_path / "tower" / "weights").write_bytes(b"weights")
    visual = VisualStream(model=str(tmp_path / "tower"))
    encoders = {"visual": visual.model, "visual_stream": visual.model_dump_json(), "audio": "tiny"}
    encoders["audio_stream"] = AudioStream().model_dump_json()
    config, prompts = small_config(), planted_prompts()
    model = build_model(config, dims=DIMS, prompts=prompts)
    package = save_package(tmp_path / "model", model, config, prompts.grid, encoders=encoders, metrics={})
    for register in (None, "affect", None):
        log(tracker, package, register)
    assert len(logged(tracker)) == 2
    shutil.rmtree(tmp_path / "tower")
    found = Path(load_package(tracker.fetch_model("models:/affect@champion")).encoders["visual"])
    assert (found / "weights").read_bytes() == b"weights"
