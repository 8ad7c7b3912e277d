"""A study on nodes with private disks and a bucket between them, over the same study on one shared disk.

Machines, network and bucket are those of tests/cluster: both studies run on the same two nodes of one core, in turn.
The bucket is a server in Python on the same cores, so its work counts against us; a real bucket has its own machines,
and a longer way.
"""

from __future__ import annotations

import shutil
import statistics
import time
from pathlib import Path

import pytest
import yaml

from affectgrid.storage import Storage
from cluster.support_cloud import Cloud, cloud, upload_folder
from cluster.support_nodes import missing_for_nodes

pytestmark = [
    pytest.mark.skipif(missing_for_nodes() is not None, reason=str(missing_for_nodes())),
    pytest.mark.timeout(1500),
]
NUM_TRIALS, REPEATS = 12, 3
_SPACE = {
    "trials": NUM_TRIALS,
    "constants": {"window.length": 40, "window.stride": 40, "optim.epochs": 40},
    "space": {"optim.lr": {"float": [1.0e-3, 1.0e-2], "log": True}},
}


def test_cluster_study(say, rendered: Path, tmp_path: Path) -> None:
    """Whole jobs as submitted: start of the driver, features from the store, 12 trials, report. Encoded before."""
    with cloud(tmp_path) as made:
        shared = made.network.shared
        upload_folder(rendered, Storage(made.bucket.uri("cloud/data")))
        shutil.copytree(rendered, shared / "data")
        made.ensure(2, 3)
        places = {"bucket": (made.inside("data"), made.inside("out")), "disk": (shared / "data", shared / "out")}
        times: dict[str, list[float]] = {name: [] for name in places}
        sent: dict[str, list[int]] = {name: [] for name in places}
        server: dict[str, list[float]] = {name: [] for name in places}  # this process is the bucket's server
        for repeat in range(REPEATS + 1):  # the first one encodes, and is left out
            for name, (data, out) in places.items():
                before, began, served = _sent_bytes(made), time.perf_counter(), time.process_time()
                _study(made, f"{name}-{repeat}", data, out)
                times[name].append(time.perf_counter() - began)
                sent[name].append(_sent_bytes(made) - before)
                server[name].append(time.process_time() - served)
        bucket_s, disk_s = (statistics.median(times[name][1:]) for name in ("bucket", "disk"))
        served_s, idle_s = (statistics.median(server[name][1:]) for name in ("bucket", "disk"))
        figures = f"{served_s:.1f} s of {bucket_s - disk_s:.1f} s more; without a bucket {idle_s:.1f} s"
        say("cluster_server", served_s / max(bucket_s - disk_s, 1e-9), f"the bucket's server: {figures}", "told")
        per_trial = {name: statistics.median(sent[name][1:]) / NUM_TRIALS for name in places}
        with_encoding = f"{times['bucket'][0]:.1f} over {times['disk'][0]:.1f} s with encoding"
        say("cluster_study", bucket_s / disk_s, f"{bucket_s:.1f} over {disk_s:.1f} s; {with_encoding}", "<= 1.10")
        figures = f"{per_trial['bucket'] / 1024:.0f} over {per_trial['disk'] / 1024:.0f} KiB; the disk's are Ray's own"
        say("cluster_sent_per_trial", per_trial["bucket"] / per_trial["disk"], figures, "told")


def _study(made: Cloud, name: str, data: object, out: object) -> None:
    path = made.network.shared / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": name, **_SPACE}))
    said = made.job("jobs/tune.py", "--data", data, "--out", out, "--space", path)
    assert f"{name}: {NUM_TRIALS} of {NUM_TRIALS} trials" in said, said[-4000:]


def _sent_bytes(made: Cloud) -> int:
    """What head and nodes have sent; the bucket's answers are not counted."""
    return sum(machine.sent_bytes() for machine in made.network.machines.values())
