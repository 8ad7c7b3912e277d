"""An elastic run on a cluster of two nodes, of which one is drained as a cloud does it, and then gone."""

from __future__ import annotations

import argparse
import contextlib
import json
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from affectgrid.distributed.cluster import connect
from affectgrid.distributed.train.run import train
from affectgrid.training.data import PreparedData
from support.planted import planted_prompts, planted_split, small_config

SETTINGS = {"optim__epochs": 6, "optim__lr": 1e-3, "model__dropout": 0.0, "model__modality_dropout": 0.0}
_WARNING_S = 30  # what a cloud gives


def data() -> PreparedData:
    """Epochs of some seconds."""
    return PreparedData(
        train=planted_split("train", [1500] * 8),
        validation=planted_split("validation", [35, 20, 44], seed=1),
        prompts={"3x3-plain": planted_prompts()},
        fingerprint="planted",
    )


def seals(run: Path) -> list[tuple[int, int]]:
    """(epochs, steps of the running epoch) of every whole checkpoint."""
    found = []
    for path in run.glob("checkpoint_*/checkpoint.json"):
        with contextlib.suppress(OSError, ValueError):
            seal = json.loads(path.read_text())
            found.append((seal["epoch"], seal["step"]))
    return sorted(found)


def take_away(cluster: Cluster, node: object, node_id: str, run: Path, events: dict[str, object]) -> None:
    """Wait for an epoch, drain the node, wait for the checkpoint that the warning causes, and kill the node."""
    while not seals(run):
        time.sleep(0.05)
    client = ray._raylet.GcsClient(address=cluster.address)
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline = time.time() + _WARNING_S
    events["accepted"], _ = client.drain_node(node_id, reason, "test", int(deadline * 1000))
    while time.time() < deadline and not events.get("middle"):
        events["middle"] = next((seal for seal in seals(run) if seal[1]), None)
        time.sleep(0.02)
    cluster.remove_node(node, allow_graceful=False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("storage", type=Path)
    storage = parser.parse_args().storage
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    node_id = node.node_id
    events: dict[str, object] = {}
    with connect(cluster.address):
        cluster.wait_for_nodes()
        thread = threading.Thread(target=take_away, args=(cluster, node, node_id, storage / "run", events), daemon=True)
        thread.start()
        result = train(small_config(**SETTINGS), data(), storage=storage, name="run", num_workers=(1, 2))
    print(json.dumps({"events": events, "history": result.history}))
    cluster.shutdown()


if __name__ == "__main__":
    main()
