"""A cluster of a head without CPUs, and nothing else: what a run asks for is what makes nodes come."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from affectgrid.storage import Storage
from cluster.support_cloud import HEAD, Cloud, cloud, upload_folder
from cluster.support_nodes import missing_for_nodes

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(missing_for_nodes() is not None, reason=str(missing_for_nodes())),
    pytest.mark.timeout(290),
]
_PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
_HEAD_ID = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"  # Ray's FAKE_HEAD_NODE_ID
_NODES = {"cpu": {"CPU": 1}, "gpu": {"CPU": 1, "GPU": 1}}


def configuration(address: str, types: tuple[str, ...]) -> dict[str, object]:
    """An autoscaler's file: the head, and at most one node of each type, which Ray starts beside the head."""
    workers = {
        name: {"resources": _NODES[name], "node_config": {}, "min_workers": 0, "max_workers": 1} for name in types
    }
    head = {"ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0}}
    commands = ["initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"]
    commands += ["head_start_ray_commands", "worker_start_ray_commands"]
    provider = {"type": "external", "module": _PROVIDER, "gcs_address": f"{address}:6379", "head_node_id": _HEAD_ID}
    return {
        "cluster_name": "from-zero",
        "max_workers": len(types),
        "idle_timeout_minutes": 1,
        "provider": {**provider, "launch_multiple": True},
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "head_node_type": "ray.head.default",
        "available_node_types": {**head, **workers},
        **{name: [] for name in commands},
    }


def start(made: Cloud, *types: str) -> None:
    """A head whose autoscaler may add these nodes."""
    path = made.network.shared / "autoscaler.json"
    path.write_text(json.dumps(configuration(f"10.77.0.{HEAD}", types)))
    environment = {
        "RAY_enable_autoscaler_v2": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
        "RAY_CLOUD_INSTANCE_ID": _HEAD_ID,
        "RAY_NODE_TYPE_NAME": "ray.head.default",
    }
    made.start_head(f"--autoscaling-config={path}", mlflow=False, more=environment)


@contextlib.contextmanager
def from_zero(tmp_path: Path, rendered: Path, *types: str) -> Iterator[tuple[Cloud, tuple[str, ...]]]:
    """A head alone, the corpus in the bucket, and the command that encodes it."""
    with cloud(tmp_path) as made:
        upload_folder(rendered, Storage(made.bucket.uri("cloud/data")))
        start(made, *types)
        store = made.inside(f"features-of-{'-'.join(types)}")  # the tests of a process share what moto holds
        yield made, ("jobs/encode.py", "--data", made.inside("data"), "--store", store)


def test_the_first_node_comes_because_a_job_waits(rendered: Path, tmp_path: Path) -> None:
    with from_zero(tmp_path, rendered, "cpu") as (made, command):
        assert "18 streams encoded" in made.job(*command)


def test_a_gpu_node_comes_because_a_job_asks_for_a_gpu_and_is_named_without_cuda(
    rendered: Path, tmp_path: Path
) -> None:
    with from_zero(tmp_path, rendered, "cpu", "gpu") as (made, command):
        said = made.job(*command, status=1)  # ray job submit ends with 1, whatever the job's own status is
        assert "CFG-CUDA" in said
        assert f"10.77.0.{HEAD}" in said
        assert "a GPU that Ray announces and torch cannot use" in said
