"""The driver of a small study on planted data, as a process that tests may kill."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from affectgrid.distributed.cluster import connect
from affectgrid.distributed.tune.resources import TrialResources
from affectgrid.distributed.tune.run import tune
from affectgrid.reporting.study.tables import headline
from affectgrid.search.space.reading import parse_space
from affectgrid.tracking import open_tracker
from support.planted import planted_data

SMALL = {"model.hidden_dim": 8, "model.num_heads": 2, "window.length": 24, "window.stride": 16, "optim.epochs": 3}
SPACE: dict[str, Any] = {
    "name": "small",
    "trials": 6,
    "constants": SMALL,
    "space": {
        "prompt.mode": {"choice": ["ensemble", "none"]},
        "prompt.sigma_ratio": {"float": [0.2, 1.0], "log": True, "when": "prompt.mode != none"},
        "optim.lr": {"float": [1e-3, 3e-2], "log": True},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("storage", type=Path)
    parser.add_argument("--space", type=json.loads, default={})
    parser.add_argument("--address", default="local")
    parser.add_argument("--extend", type=int, default=0)
    parser.add_argument("--confirm", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    tracker = open_tracker(f"sqlite:///{options.storage / 'mlflow.db'}", "planted")
    with connect(options.address, num_cpus=2 if options.address == "local" else None):
        space = parse_space(SPACE | options.space)
        summary = tune(
            space,
            planted_data(),
            storage=options.storage,
            tracker=tracker,
            extend=options.extend,
            num_confirm=options.confirm,
            resources=TrialResources(workers=options.workers),
        )
    print(headline(summary))


if __name__ == "__main__":
    main()
