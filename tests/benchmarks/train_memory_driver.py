"""Train on a synthetic corpus and print the peak memory of the whole process tree, and the bytes of its features.

python train_memory_driver.py one|four SCALE FOLDER
"""

from __future__ import annotations

import contextlib
import sys
import threading
from pathlib import Path

import psutil

from affectgrid.analysis.scale import prepare_scale, run_scale
from affectgrid.data.splits.feed import FeedOptions
from affectgrid.search.space.schema import SearchSpace
from affectgrid.training.config import TrainConfig
from benchmarks.corpora import CACHE, corpus


def tree_bytes() -> int:
    """Proportional set size of this process and everything that it started: shared pages count once."""
    total, me = 0, psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


# Every frame is read once an epoch; the small model leaves the time to reading.
SMALL_MODEL = {
    "model": {"temporal": "none", "fusion": "concat", "hidden_dim": 16, "num_heads": 2},
    "window": {"length": 300, "stride": 300},
    "optim": {"epochs": 1},
}


def four_trials(scale: float, folder: Path) -> int:
    """A search whose four trials run at once; returns the bytes of the features."""
    from affectgrid.distributed.cluster import connect
    from affectgrid.distributed.tune.run import tune
    from affectgrid.tracking import open_tracker

    constants = {f"{section}.{name}": value for section, own in SMALL_MODEL.items() for name, value in own.items()}
    space = SearchSpace.model_validate(
        {"name": "memory", "trials": 4, "constants": constants, "space": {"optim.lr": {"float": [1e-4, 1e-3]}}}
    )
    tracker = open_tracker(f"sqlite:///{folder / 'mlflow.db'}", "memory", artifacts=folder / "artifacts")
    with connect("local", num_cpus=4):
        data = prepare_scale(corpus(scale), TrainConfig(), FeedOptions(mode="mapped"), CACHE / "scale" / "mapped")
        summary = tune(space, data, storage=folder, tracker=tracker)
    assert not summary.failed, summary.failed
    return sum(split.feature_bytes for split in (data.train, data.validation))


def main() -> None:
    kind, scale, folder = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    peak, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            peak[0] = max(peak[0], tree_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        if kind == "four":
            size = four_trials(scale, folder)
        else:
            config, mode = TrainConfig.model_validate(SMALL_MODEL | {"model": {}}), FeedOptions(mode="resident")
            size = run_scale(corpus(scale), config, mode, CACHE / "scale" / "mapped").feature_bytes
    finally:
        over.set()
        watcher.join()
    print(peak[0], size)


main()
