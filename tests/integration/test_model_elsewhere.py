"""A registered model in a new environment in another folder, where only its requirements are."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from affectgrid.tracking import open_tracker
from affectgrid.tracking.connection import client
from support.mlflow_server import free_port
from support.processes import wait_until

pytestmark = [pytest.mark.long, pytest.mark.media, pytest.mark.timeout(3600)]
QUICK = (
    *("--config.optim.epochs", "2", "--config.model.hidden-dim", "16"),
    *("--config.window.length", "40", "--config.window.stride", "40"),
)
PREDICT = """
import importlib.util, sys
assert not [name for name in ("affectgrid", "ray", "optuna") if importlib.util.find_spec(name)]
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
model.predict([{"video": sys.argv[2]}]).to_parquet("table.parquet")
"""


def job(repository: Path, name: str, *arguments: object) -> None:
    command = [sys.executable, f"jobs/{name}.py", *map(str, arguments)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def out(repository: Path, rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The --out folder of a training whose model was registered, with the smoothing that was chosen after it."""
    out = tmp_path_factory.mktemp("out")
    options = ("--register", "affect", "--choose-smoothing", 0, 3)
    job(repository, "train", "--data", rendered, "--out", out, "--name", "quick", *QUICK, *options)
    return out


@pytest.fixture(scope="module")
def told(repository: Path, out: Path, media: Path) -> pd.DataFrame:
    """What jobs/predict.py says of a real video by the registered model."""
    job(repository, "predict", media / "obama_speech.mp4", "--model", "models:/affect@champion", "--out", out)
    return pd.read_parquet(out / "predictions" / "predictions.parquet")


@pytest.fixture(scope="module")
def model(out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's files, away from everything else."""
    tracker = open_tracker(f"sqlite:///{out}/mlflow.db", artifacts=out / "mlartifacts")
    version = client(tracker.uri).get_model_version_by_alias("affect", "champion")
    folder = tmp_path_factory.mktemp("elsewhere") / "model"
    return shutil.copytree(version.source.removeprefix("file://"), folder)


@pytest.fixture(scope="module")
def environment(model: Path) -> Path:
    """The folder of the programs of a new environment with the model's requirements."""
    folder = model.parent / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=300)
    install = [folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check", "-r", model / "requirements.txt"]
    done = subprocess.run(install, capture_output=True, text=True, timeout=3000)
    if "NewConnectionError" in done.stderr or "Could not find a version" in done.stderr:
        pytest.skip("the model's requirements cannot be fetched: that needs the package index")
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def bare() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def require_same(table: pd.DataFrame, told: pd.DataFrame) -> None:
    assert table["face_found"].tolist() == told["face_found"].tolist()
    assert table["frame"].tolist() == told["frame"].tolist()
    for name in (
        "time_s",
        "valence",
        "arousal",
        *(name for name in told if name.startswith(("face_", "region_", "share_"))),
    ):
        np.testing.assert_allclose(table[name], told[name], atol=1e-5, err_msg=name)
    assert table["valence"].notna().sum() > 50


def test_it_predicts_there_what_predict_gives_here(environment: Path, model: Path, media: Path, told: pd.DataFrame):
    command = [environment / "python", "-c", PREDICT, model, media / "obama_speech.mp4"]
    done = subprocess.run(command, cwd=model.parent, env=bare(), capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    require_same(pd.read_parquet(model.parent / "table.parquet"), told)


@pytest.fixture
def address(environment: Path, model: Path) -> Iterator[str]:
    port = free_port()
    command = [environment / "mlflow", "models", "serve", "--model-uri", model, "--env-manager", "local"]
    path = f"{environment}{os.pathsep}{os.environ['PATH']}"
    with (model.parent / "serve.log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=model.parent,
            env=bare() | {"PATH": path, "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": "3600"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/ping"), alive=server, timeout_s=600)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # its workers too
        server.wait(60)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_server_answers_with_the_same(address: str, media: Path, told: pd.DataFrame):
    content = json.dumps({"dataframe_records": [{"video": str(media / "obama_speech.mp4")}]}).encode()
    asked = urllib.request.Request(f"{address}/invocations", content, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=1200) as answer:
        rows = json.load(answer)["predictions"]
    require_same(pd.DataFrame(rows).astype({"valence": float, "arousal": float}), told)
