"""Encode a folder of films on so many workers, and print what it took as JSON.

Arguments: folder, store, number of workers.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import Any

from affectgrid.data.catalog import read_folder
from affectgrid.data.features.report import EncodePlan
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.data.features.timings import read_timings
from affectgrid.distributed import cluster
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.run import encode


def main(folder: str, store: str, workers: str) -> None:
    config = EncodeConfig(visual=VisualStream(crop="frame"), audio=AudioStream(hop_s=0.5))
    found: dict[str, Any] = {}

    def show(plan: EncodePlan) -> None:
        found["streams"] = [dataclasses.asdict(stream) for stream in plan.streams]
        found["prepared_s"] = time.monotonic() - began

    with cluster.connect("local", num_cpus=int(workers)):
        began = time.monotonic()
        report = encode(read_folder(folder), store, config, show_plan=show)
    assert report.quarantined == ()
    found["seconds"] = report.seconds
    found["timings"] = [dataclasses.asdict(timing) for timing in read_timings(FeatureStore(store))]
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
