"""Kill signals, torn files and a loss that is NaN, on real runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
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


def test_mlflow_goes_away_and_comes_back(tmp_path):
    """A real server, killed in mid-run: what was not logged is kept and delivered, nothing twice."""
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = start_server(tmp_path, port)
    try:
        run = open_tracker(f"http://127.0.0.1:{port}", "served").study("study", {"lr": 1}, {})
        run.metrics({"val/p": 0.1}, step=1)
        stop(server)
        before = time.monotonic()
        for epoch in (2, 3, 4):
            run.metrics({"val/p": epoch / 10}, step=epoch)
        run.finish()
        assert time.monotonic() - before < 30  # training is not held up
        server = start_server(tmp_path, port)
        client = connection.client(open_tracker(f"http://127.0.0.1:{port}", "served").uri)  # delivers what was kept
        history = client.get_metric_history(run.run_id, "val/p")
        assert [(m.step, m.value) for m in history] == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
        assert client.get_run(run.run_id).info.status == "FINISHED"
    finally:
        stop(server)


def start_server(folder: Path, port: int) -> psutil.Process:
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    store = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "files")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = (folder / "server.log").open("a")
    process = subprocess.Popen([*command, *store], env=environment, stdout=log, stderr=log)

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).status == 200
        return False

    wait_until(answers, alive=process)
    return psutil.Process(process.pid)


def stop(server: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        members = [server, *server.children(recursive=True)]
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(members, timeout=10)
