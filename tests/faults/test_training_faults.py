"""Kill signals, torn files and a loss that is NaN, on real runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from affectgrid.tracking import connection, open_tracker
from affectgrid.training.loop import fit
from support.planted import planted_data, small_config
from support.processes import Family, family, wait_until

DRIVER = "support.train_driver"
SETTINGS = {
    "optim__epochs": 40,
    "model__modality_dropout": 0.3,
}  # long enough to be hit, with random numbers to restore


@pytest.fixture(scope="module")
def unbroken():
    """The same run in a plain interpreter, which nothing disturbs."""
    torch.set_num_threads(1)
    data = planted_data()
    return fit(small_config(**SETTINGS), data.train, data.validation, data.prompts["3x3-plain"])


def arguments(folder: Path, *more: str) -> list[str]:
    return [str(folder / "runs"), "--settings", json.dumps(SETTINGS), *more]


def checkpoints(folder: Path) -> list[Path]:
    """Whole ones, oldest first."""
    return sorted(seal.parent for seal in (folder / "runs" / "run").glob("checkpoint_*/checkpoint.json"))


def epochs_saved(folder: Path) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(json.loads((checkpoints(folder)[-1] / "checkpoint.json").read_text())["epoch"])
    return 0


def kill_driver(processes: Family, driver: subprocess.Popen[str]) -> None:
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    processes.end()  # what it left behind; a machine that loses its power leaves nothing either


def assert_same_bits(folder: Path, out: str, unbroken) -> None:
    assert json.loads(out.strip().splitlines()[-1]) == list(unbroken.history)
    found = load_file(folder / "runs" / "run" / "model" / "model.safetensors")
    for name, value in unbroken.model.state_dict().items():
        assert torch.equal(found[name], value), name


@pytest.mark.long
def test_kill_9_of_the_driver_then_the_same_command(unbroken, tmp_path):
    """Also the newest checkpoint is torn: the one before it serves. The log has every epoch once, in one run."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with family(Path("/tmp")) as processes:
        driver = processes.start(DRIVER, arguments(tmp_path, "--tracking", uri))
        wait_until(lambda: epochs_saved(tmp_path) >= 3, alive=driver)
        kill_driver(processes, driver)
        reached = epochs_saved(tmp_path)
        assert 3 <= reached < 40
        newest = checkpoints(tmp_path)[-1] / "weights.safetensors"
        newest.write_bytes(newest.read_bytes()[:50])
        out, _ = processes.run(DRIVER, arguments(tmp_path, "--tracking", uri))
    assert_same_bits(tmp_path, out, unbroken)

    client = connection.client(open_tracker(uri, "planted").uri)
    (run,) = client.search_runs([client.get_experiment_by_name("planted").experiment_id])
    assert run.info.status == "FINISHED"
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "val/p")]
    assert sorted(steps) == list(range(1, 41))


@pytest.mark.long
def test_kill_9_of_a_worker(unbroken, tmp_path):
    with family(Path("/tmp")) as processes:
        driver = processes.start(DRIVER, arguments(tmp_path))
        wait_until(lambda: epochs_saved(tmp_path) >= 3, alive=driver)
        (worker,) = workers_of(processes)
        worker.kill()
        out, err = driver.communicate(timeout=240)
        assert driver.returncode == 0, err[-4000:]
    assert_same_bits(tmp_path, out, unbroken)


def workers_of(processes: Family) -> list[psutil.Process]:
    return processes.members("ray::RayTrainWorker")


def test_a_loss_that_is_no_number_is_told_at_once_and_not_tried_again(tmp_path):
    settings = {"optim__lr": 1e30, "optim__clip_norm": 1e30}
    with family(Path("/tmp")) as processes:
        driver = processes.start(DRIVER, [str(tmp_path / "runs"), "--settings", json.dumps(settings)])
        _, err = driver.communicate(timeout=240)
    assert driver.returncode == 1
    assert "TRAIN-NAN epoch" in err
    assert "lower optim.lr" in err
