"""Encode on two nodes of one host, and lose one of them on the way.

python -m support.node_driver CORPUS STORE
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from ray.cluster_utils import Cluster

from affectgrid.data.catalog import read_aff_wild2
from affectgrid.data.features.streams import AudioStream
from affectgrid.distributed.cluster import connect
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.run import encode


def main() -> None:
    corpus, store = map(Path, sys.argv[1:])
    quiet = {"include_dashboard": False, "object_store_memory": 200 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **quiet})
    doomed = cluster.add_node(num_cpus=1, object_store_memory=200 << 20)
    cluster.wait_for_nodes()
    lost, over = threading.Event(), threading.Event()

    def lose_it() -> None:
        while not over.wait(0.02):
            if len(list(store.rglob("*.parquet"))) >= 2:  # both encoders are at work
                cluster.remove_node(doomed, allow_graceful=False)
                lost.set()
                return

    watcher = threading.Thread(target=lose_it)
    try:
        with connect(cluster.address):
            watcher.start()
            report = encode(
                read_aff_wild2(corpus),
                store,
                EncodeConfig(audio=AudioStream(hop_s=0.5), chunk_frames=16, chunk_hops=3, encoders=2),
            )
        over.set()
        watcher.join()
    finally:
        cluster.shutdown()
    print(json.dumps({"lost": lost.is_set(), "quarantined": len(report.quarantined), "folders": report.fingerprints}))


main()
