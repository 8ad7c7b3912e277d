"""A cluster as docs/cluster.md has it: a head without CPUs, nodes with disks of their own, a bucket between them.

Ray is started by `ray start` and jobs come by `ray job submit`, on machines of `support_nodes`. MLflow's server and
database are on the head, as in cluster.yaml, and are lost with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from moto.server import ThreadedMotoServer

from affectgrid.storage import Storage
from cluster.support_nodes import OUTSIDE, Machine, Network, network, wait_for
from support.bucket import CREDENTIALS, NAME, Bucket

HEAD = 1
DASHBOARD = "http://10.77.0.1:8265"
MLFLOW = "http://127.0.0.1:5000"  # on the head, where drivers run
_S3_PORT = 9000
_SETTINGS = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "COLUMNS": "200",
}
_KEPT = (".parquet", ".safetensors", "trial.json", "summary.json", "checkpoint.json", "report.html", ".mp4")


@dataclasses.dataclass
class Cloud:
    """The machines of a test, and what they share."""

    network: Network
    bucket: Bucket

    @property
    def out(self) -> Storage:
        """AFFECTGRID_OUT, as the test reaches it."""
        return Storage(self.bucket.uri("cloud/out"))

    @staticmethod
    def inside(folder: str) -> str:
        """A folder of the bucket, as the machines reach it."""
        return Bucket(f"{OUTSIDE}:{_S3_PORT}").uri(f"cloud/{folder}")

    @property
    def environment(self) -> dict[str, str]:
        """What every process on every machine sees."""
        disk = self.network.disk
        return {
            "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
            "HOME": str(disk / "home"),
            "TMPDIR": str(disk / "tmp"),
            "RAY_TMPDIR": "/tmp",  # sockets are there, and a socket's path holds 107 bytes
            "AFFECTGRID_CACHE": str(disk / "cache"),
            "AFFECTGRID_OUT": self.inside("out"),
            "MLFLOW_TRACKING_URI": MLFLOW,
            **_SETTINGS,
            **CREDENTIALS,
        }

    @property
    def head(self) -> Machine:
        """The head."""
        return self.network.machines[HEAD]

    def start_head(self, *options: str, mlflow: bool = True, more: Mapping[str, str] | None = None) -> Machine:
        """A new head with an empty disk, Ray without CPUs, and MLflow; `more`: variables of its processes."""
        machine = self.network.machine(HEAD, self.environment | dict(more or {}))
        if mlflow:
            machine.environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
            store = ["--backend-store-uri", f"sqlite:///{machine.disk}/mlflow.db"]
            store += ["--artifacts-destination", f"{machine.disk}/mlartifacts"]
            server = ["mlflow", "server", "--workers", 1, "--host", "127.0.0.1", "--port", 5000, *store]
            _in_background(machine, "mlflow", server)
        resources = ["--head", "--num-cpus=0", "--dashboard-host=0.0.0.0", f"--node-ip-address={machine.address}"]
        machine.run("ray", "start", *resources, "--port=6379", *options, timeout_s=90)
        health = "import urllib.request as u; u.urlopen('http://127.0.0.1:5000/health', timeout=2)"
        if mlflow:
            wait_for(lambda: _succeeds(machine, health), 60, "MLflow's answer")
        return machine

    def start_node(self, number: int, *options: str) -> Machine:
        """A new node with an empty disk and one core."""
        machine = self.network.machine(number, self.environment)
        address = ["--address=10.77.0.1:6379", f"--node-ip-address={machine.address}"]
        machine.run("ray", "start", *address, "--num-cpus=1", *options, timeout_s=60)
        return machine

    def ensure(self, *numbers: int) -> None:
        """Start the head and these nodes where they are not there."""
        if HEAD not in self.network.machines or not self.head.alive:
            for machine in self.network.machines.values():
                machine.kill()
            self.start_head()
        for number in numbers:
            if number not in self.network.machines or not self.network.machines[number].alive:
                self.start_node(number)

    def submit(self, *command: object, options: tuple[object, ...] = ()) -> list[object]:
        """`ray job submit -- python ...`, to be run on the head."""
        return ["ray", "job", "submit", "--address", DASHBOARD, *options, "--", "python", *command]

    def job(self, *command: object, options: tuple[object, ...] = (), timeout_s: float = 200, status: int = 0) -> str:
        """Submit a job, wait for its end and return what it printed."""
        process = self.head.start(*self.submit(*command, options=options))
        output = self.head.finish(process, timeout_s)
        assert process.returncode == status, f"the job ended with {process.returncode}:\n{output[-8000:]}"
        return output

    def trials(self, study: str) -> dict[int, dict[str, Any]]:
        """The records of a study's finished trials in the bucket."""
        place = self.out / "studies" / study / "trials"
        return {
            int(name): place.read_json(f"{name}/trial.json")
            for name in place.list_folders()
            if place.exists(f"{name}/trial.json")
        }

    def wait_for_trials(self, study: str, count: int, process: subprocess.Popen[str]) -> dict[int, dict[str, Any]]:
        """The records, as soon as there are `count` of them and the search goes on."""

        def enough() -> dict[int, dict[str, Any]]:
            assert process.poll() is None, f"the search ended before:\n{process.communicate()[0][-6000:]}"
            found = self.trials(study)
            return found if len(found) >= count else {}

        return wait_for(enough, 150, f"{count} trials of {study}")

    def left_on_disks(self) -> list[str]:
        """Results outside the caches of the living machines: on their disks, or below Ray's folder."""
        found = []
        for machine in self.network.machines.values():
            roots = [machine.path(machine.disk), machine.path(Path("/tmp/ray"))] if machine.alive else []
            for path in (path for root in roots for path in root.rglob("*")):
                cached = "cache" in path.parts or "mlartifacts" in path.parts
                if path.name.endswith(_KEPT) and not cached and path.is_file():
                    found.append(f"{machine.name}:{path}")
        return found


@contextlib.contextmanager
def cloud(folder: Path) -> Iterator[Cloud]:
    """A network with a bucket and no machine yet; it ends with the block."""
    with network(folder) as made, _two_faced_bucket(made) as bucket:
        yield Cloud(made, bucket)


@contextlib.contextmanager
def _two_faced_bucket(made: Network) -> Iterator[Bucket]:
    """One bucket behind two addresses: for the machines, and on the test's own loopback."""
    outer = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    inner = ThreadedMotoServer(ip_address=OUTSIDE, port=_S3_PORT, verbose=False)

    def start_inside() -> None:
        made.enter()  # this thread, and the server's thread that it starts
        inner.start()

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # thousands of requests
    outer.start()
    starter = threading.Thread(target=start_inside)
    starter.start()
    starter.join()
    try:
        host, port = outer.get_host_and_port()
        bucket = Bucket(f"{host}:{port}")
        fs, _ = pafs.FileSystem.from_uri(bucket.uri("") + "&allow_bucket_creation=true")
        fs.create_dir(NAME)
        yield bucket
    finally:
        outer.stop()
        inner.stop()


def upload_folder(source: Path, place: Storage) -> None:
    """Put a folder's files into the bucket."""
    for path in source.rglob("*"):
        if path.is_file():
            place.upload(path, str(path.relative_to(source)))


def _in_background(machine: Machine, name: str, command: list[object]) -> None:
    log = machine.disk / f"{name}.log"
    machine.run("bash", "-c", f'nohup "$@" > {log} 2>&1 &', name, *command)


def _succeeds(machine: Machine, script: str) -> bool:
    return subprocess.run(machine.command("python", "-c", script), capture_output=True).returncode == 0


def wait_for_end(process: subprocess.Popen[str], timeout_s: float) -> None:
    """Wait for a client whose head may be gone; kill it if it does not notice."""
    deadline = time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    if process.poll() is None:
        process.kill()
    process.communicate()
