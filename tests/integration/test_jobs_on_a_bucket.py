"""Commands as a user types them where AFFECTGRID_OUT names a bucket: results are there, and are read from there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from affectgrid.storage import Storage
from affectgrid.training.inference.ensemble import load_ensemble
from support.bucket import Bucket, s3_server

MODEL = {"optim.epochs": 2, "model.hidden_dim": 16, "window.length": 40, "window.stride": 40}


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_server() as server:
        yield server


@pytest.mark.long
def test_from_search_to_prediction(
    bucket: Bucket, repository: Path, rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Storage(bucket.uri("out"))
    environment = os.environ | {
        "AFFECTGRID_OUT": out.uri,
        "AFFECTGRID_CACHE": str(tmp_path / "cache"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "COLUMNS": "200",
    }
    monkeypatch.setenv("AFFECTGRID_CACHE", str(tmp_path / "cache"))

    def job(name: str, *arguments: object) -> str:
        command = [sys.executable, f"jobs/{name}.py", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=repository, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    space = tmp_path / "two.yaml"
    space.write_text(f"name: two\nbase: {MODEL}\narms:\n- {{name: a}}\n- {{name: b, set: {{optim.lr: 0.01}}}}\n")
    first = job("tune", "--data", rendered, "--space", space)
    assert "s3://bucket/out/studies/two/report.html" in first
    study = out / "studies" / "two"
    assert job("report", "--study", study.uri).startswith("**two: 2 of 2 trials")

    quick = [f"--config.{name.replace('_', '-')}={value}" for name, value in MODEL.items()]
    said = job("train", "--data", rendered, "--name", "one", "--choose-smoothing", 0, 2, *quick)
    assert "s3://bucket/out/runs/one/model" in said
    trained = out / "runs" / "one" / "model"
    assert "chosen" in trained.read("manifest.json").decode()

    both = ["--model", (study / "best" / "model").uri, trained.uri]
    said = job("evaluate", *both, "--data", rendered, "--name", "both", "--fit-weights")
    assert "s3://bucket/out/evaluations/both-validation/report.html" in said
    ensemble = out / "evaluations" / "both-validation" / "ensemble.json"
    assert [place.uri for place in load_ensemble([ensemble]).places] == both[1:]

    said = job("predict", rendered, "--model", ensemble.uri)
    assert "s3://bucket/out/predictions/<track>.csv" in said
    assert (out / "predictions").list_files()

    assert "s3://bucket/out/doctor.html" in job("validate", "--data", rendered)
    assert out.exists("problems.json")
    assert not [path for path in repository.iterdir() if path.name.startswith("s3:")]
