"""Train one configuration on one or many workers. The same command goes on after a kill."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT / "platform")  # this checkout, not an installed copy

from pydantic import Field

from affectgrid.cli import run
from affectgrid.data.workspace import Workspace
from affectgrid.distributed.cluster import connect
from affectgrid.distributed.prepare import DataOptions, prepare
from affectgrid.distributed.train import train
from affectgrid.reporting.scores import caveat
from affectgrid.reporting.training import print_training
from affectgrid.tracking import open_tracker
from affectgrid.training.config import TrainConfig


class Train(DataOptions):
    """Train and keep the best epoch as a model package under OUT/runs/NAME/model."""

    name: str = Field("train", description="name of the run: the same name goes on, another name starts afresh")
    config: TrainConfig = TrainConfig()
    workers: int = Field(1, gt=0, description="training processes; the batch is shared among them")
    out: Path = Field(ROOT / "outputs", description="folder of features, runs and the MLflow database")
    address: str | None = Field(None, description="Ray cluster to join; by default RAY_ADDRESS, else a private one")


def main(options: Train) -> int:
    workspace = Workspace.open(options.out)
    tracker = open_tracker(workspace.tracking_uri, "affectgrid", artifacts=workspace.artifacts)
    with connect(options.address):
        prompt = options.config.prompt
        prepared = prepare(options, workspace, prompt_files=[prompt.file], prompt_modes=[prompt.mode])
        result = train(
            options.config,
            prepared,
            num_workers=options.workers,
            storage=workspace.runs,
            name=options.name,
            tracker=tracker,
        )
    print_training(result, tracker.open_command, caveat(prepared.train.encoders, options.data))
    return 0


if __name__ == "__main__":
    run(main, Train)
