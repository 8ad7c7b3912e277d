"""Studies and runs whose results are objects: models are there before trials are, and another head resumes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from affectgrid.analysis.summary import StudySummary
from affectgrid.distributed import cluster
from affectgrid.distributed.train.run import train
from affectgrid.distributed.tune.run import tune
from affectgrid.search.space.reading import parse_space
from affectgrid.storage import Storage, cache_folder
from affectgrid.storage.working_copy import WorkingCopy
from affectgrid.tracking import open_tracker
from affectgrid.training.inference.package import load_package
from support.bucket import Bucket, s3_server
from support.planted import planted_data, small_config
from support.study_driver import SPACE


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    folder = Path(tempfile.mkdtemp(prefix="ag", dir="/tmp"))
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFFECTGRID_CACHE", str(folder / "cache"))
        patch.setenv("RAY_TMPDIR", str(folder / "r"))
        with cluster.connect("local", num_cpus=2):
            yield server
    shutil.rmtree(folder, ignore_errors=True)


def test_a_study_leaves_everything_in_the_bucket_and_another_head_resumes(bucket: Bucket, tmp_path: Path) -> None:
    studies = Storage(bucket.uri("out/studies"))
    tracker = open_tracker(f"sqlite:///{tmp_path}/mlflow.db", "bucket")
    first = parse_space(SPACE | {"trials": 3})
    tune(first, planted_data(), storage=studies, tracker=tracker)
    shutil.rmtree(cache_folder())  # the head's disk is gone
    summary = tune(parse_space(SPACE | {"trials": 5}), planted_data(), storage=studies, tracker=tracker, num_confirm=1)
    assert [trial.number for trial in summary.trials] == [0, 1, 2, 3, 4]
    assert summary.num_failed == 0
    shutil.rmtree(cache_folder())

    study = studies / "small"
    names = {entry.name for entry in study.list_files(recursive=True)}
    assert {f"trials/{number:05d}/trial.json" for number in range(5)} <= names
    assert {f"trials/{number:05d}/seed-0/model.safetensors" for number in range(5)} <= names
    assert {"summary.json", "report.html", "best/model/model.safetensors", "best/plane.png", "space.json"} <= names
    assert not [name for name in names if "checkpoints" in name or "lease" in name]
    copy = WorkingCopy(study)
    model = load_package(copy.fetch(copy.folder / "best" / "model"))
    assert summary.best is not None
    assert model.metrics["val/p"] == summary.best.score("val/p")
    copy.fetch(copy.folder / "summary.json")
    for number in range(5):
        copy.fetch(copy.folder / "trials" / f"{number:05d}")
    assert StudySummary.read(copy.folder).best == summary.best
    runs = MlflowClient(tracker.uri).search_runs([tracker.experiment_id], "tags.trial != ''")
    assert sorted(int(run.data.tags["trial"]) for run in runs) == [0, 1, 2, 3, 4]


def test_training_on_two_workers_keeps_checkpoints_and_model_in_the_bucket(bucket: Bucket) -> None:
    runs, config, data = Storage(bucket.uri("out/runs")), small_config(), planted_data()
    result = train(config, data, storage=runs, name="two", num_workers=2)
    shutil.rmtree(cache_folder())
    names = {entry.name for entry in (runs / "two").list_files(recursive=True)}
    assert {"run.json", "result.json", "model/model.safetensors"} <= names
    assert [name for name in names if name.startswith("checkpoint_")]
    again = train(config, data, storage=runs, name="two", num_workers=2)
    assert again.best == result.best
    assert load_package(again.package).metrics == result.best
    (runs / "two").delete("result.json")
    (runs / "two").delete("model")
    shutil.rmtree(cache_folder())
    resumed = train(config, data, storage=runs, name="two", num_workers=2)  # from the checkpoints in the bucket
    assert resumed.history == result.history
