"""The driver of a planted training run, as a process that tests may kill."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from affectgrid.distributed.cluster import connect
from affectgrid.distributed.train.run import train
from affectgrid.tracking import open_tracker
from support.planted import planted_data, small_config, tiny_prompts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("storage", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--tracking", default=None)
    options = parser.parse_args()
    config = small_config(**options.settings)
    prompts = tiny_prompts(options.storage.parent / "store") if config.prompt.mode == "context" else None
    tracker = open_tracker(options.tracking, "planted") if options.tracking else None
    with connect("local", num_cpus=2):
        result = train(
            config,
            planted_data(prompts),
            storage=options.storage,
            name="run",
            num_workers=options.workers,
            tracker=tracker,
        )
    print(json.dumps(result.history))


if __name__ == "__main__":
    main()
