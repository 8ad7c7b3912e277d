"""Ray Train around `fit`: two workers learn as one does, and the log has every epoch once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from affectgrid.errors import ConfigError, TrainingError
from affectgrid.tracking import connection, open_tracker
from affectgrid.training.inference.package import load_package
from affectgrid.training.inference.predict import predict_split
from affectgrid.training.loop import fit
from support.planted import PLANTED_SPLITS, planted_data, small_config, tiny_prompts
from support.processes import family

# Dropout draws on each worker for itself, so only without it are two workers one. What learns beside the model, the
# context of the prompts and the width of the labels, must be joined over the workers too.
SETTINGS = {
    "model__dropout": 0.0,
    "model__modality_dropout": 0.0,
    "loss__mse_weight": 0.3,
    "prompt__mode": "context",
    "prompt__context_tokens": 4,
    "prompt__labels": "learned",
    "optim__lr": 0.01,
    "optim__schedule": "constant",
    "optim__ema_decay": 0.5,
    "optim__region_balance": 0.5,
    "optim__epochs": 10,
    "optim__patience": 1,  # ends this run after 7 epochs, and all workers at once
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory):
    """The same run with one worker and without Ray."""
    torch.set_num_threads(1)
    data = planted_data(tiny_prompts(tmp_path_factory.mktemp("store")))
    return fit(small_config(**SETTINGS), data.train, data.validation, data.prompts["3x3-plain"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    """One run with two workers, through a process of its own."""
    folder = tmp_path_factory.mktemp("train")
    uri = f"sqlite:///{folder}/mlflow.db"
    with family(Path("/tmp")) as processes:
        out, _ = processes.run(
            "support.train_driver",
            [str(folder / "runs"), "--workers", "2", "--settings", json.dumps(SETTINGS), "--tracking", uri],
        )
        history = json.loads(out.strip().splitlines()[-1])
    return folder, uri, history


def test_two_workers_equal_one(run, alone):
    _, _, history = run
    assert len(history) == len(alone.history) == 7
    assert history[0] == pytest.approx(alone.history[0], abs=1e-6)  # before rounding has grown over the steps
    for two, one in zip(history, alone.history, strict=True):
        assert two == pytest.approx(one, abs=1e-5)


def test_the_package_is_the_best_epoch_of_that_run(run, alone):
    folder, _, history = run
    package = load_package(folder / "runs" / "run" / "model")
    assert package.metrics == max(history, key=lambda past: past["val/p"])
    assert package.manifest is not None
    assert package.manifest["device"] == "2 x CPU"
    split = planted_data().validation
    found, expected = (predict_split(m, split, package.config.window).va for m in (package.model, alone.model))
    # predictions, not weights: Adam makes steps of a bias whose true gradient is 0, which keys of attention have
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    texts = (m.prompt_head.text_features for m in (package.model, alone.model))
    torch.testing.assert_close(*texts, atol=1e-3, rtol=0)


def test_the_log_has_parameters_origin_every_epoch_and_the_model(run):
    _, uri, history = run
    client = connection.client(open_tracker(uri, "planted").uri)
    (found,) = client.search_runs([client.get_experiment_by_name("planted").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["optim.lr"] == "0.01"
    assert found.data.tags["data"] == "planted"
    for name in ("train/loss", "val/p", "lr"):
        logged = client.get_metric_history(found.info.run_id, name)
        assert [(m.step, m.value) for m in logged] == [(m["epoch"], m[name]) for m in history]
    names = {file.path for file in client.list_artifacts(found.info.run_id, "model")}
    assert "model/model.safetensors" in names
    assert (folder / "runs/run/splits.csv").read_text() == PLANTED_SPLITS
    assert [file.path for file in client.list_artifacts(found.info.run_id, "config")] == ["config/splits.csv"]


def test_a_name_that_other_settings_have_taken_is_refused_before_any_work(run):
    from affectgrid.distributed.train.run import train

    folder, _, _ = run
    with pytest.raises(TrainingError, match=r"TRAIN-CHANGED .*use another name"):
        train(small_config(seed=5), planted_data(), storage=folder / "runs", name="run")


def test_a_finished_run_is_returned_without_ray(run):
    import ray

    from affectgrid.distributed.train.run import train

    folder, _, history = run
    before = ray.is_initialized()  # another test of this process may have connected
    result = train(small_config(**SETTINGS), planted_data(), storage=folder / "runs", name="run")
    assert list(result.history) == history
    assert ray.is_initialized() == before


def test_a_model_that_cannot_be_built_is_told_before_a_worker_starts(tmp_path):
    from affectgrid.distributed.train.run import train

    with pytest.raises(ConfigError, match="CFG-CONTEXT"):  # these prompts came without a text encoder
        train(small_config(prompt__mode="context"), planted_data(), storage=tmp_path, name="run")


@pytest.mark.long
def test_a_drained_node_costs_no_epoch_and_the_run_goes_on_with_one_worker(tmp_path):
    """The warning of a spot machine makes a checkpoint in the middle of the epoch; elastic workers do without it."""
    from support import elastic_driver

    with family(Path("/tmp")) as processes:
        environment = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1", "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.2"}
        out, _ = processes.run("support.elastic_driver", [str(tmp_path)], timeout_s=500, environment=environment)
    found = json.loads(out.strip().splitlines()[-1])
    assert found["events"]["accepted"]
    epoch, step = found["events"]["middle"]
    assert epoch < 6
    assert step > 0
    history, data = found["history"], elastic_driver.data()
    alone = fit(small_config(**elastic_driver.SETTINGS), data.train, data.validation, data.prompts["3x3-plain"]).history
    assert [past["epoch"] for past in history] == [1, 2, 3, 4, 5, 6]
    for found_epoch, expected in zip(history, alone, strict=True):
        assert found_epoch == pytest.approx(expected, abs=0.01)  # the global batch is the same with one and with two


def test_storage_that_cannot_be_written_is_told_before_any_work(tmp_path):
    from affectgrid.distributed.train.run import train

    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="TRAIN-STORAGE"):
        train(small_config(), planted_data(), storage=tmp_path / "file", name="run")
