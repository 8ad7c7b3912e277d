"""Predict valence and arousal of every frame of any videos, or write the challenge's file."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT / "platform")  # this checkout, not an installed copy

from typing import Literal

from pydantic import Field

from affectgrid.cli import run
from affectgrid.settings import Settings


class Predict(Settings):
    """Encode the videos as the models' training data were, predict, and write a CSV file per track."""

    model: tuple[Path, ...] = Field(
        min_length=1, description="model packages (the folders that train or tune wrote), or one ensemble.json"
    )
    videos: Path = Field(description="a video, a folder of videos, or a folder in Aff-Wild2's layout")
    crop: Literal["crops", "detect", "frame"] | None = Field(
        None, description="where faces come from; by default the crops that are there, else a detector"
    )
    template: Path | None = Field(None, description="the challenge's template: write submission.txt in its order")
    store: str | None = Field(None, description="feature store: a folder or a URI; default: OUT/features")
    out: Path = Field(ROOT / "outputs", description="folder of features; files go to OUT/predictions")
    address: str | None = Field(None, description="Ray cluster to join; by default RAY_ADDRESS, else a private one")


def main(options: Predict) -> int:
    # here, not above: torch and Ray take seconds, and --help or a wrong option needs neither
    from affectgrid.data.workspace import Workspace
    from affectgrid.distributed.cluster import connect
    from affectgrid.distributed.predict import predict
    from affectgrid.training.inference.ensemble import load_ensemble

    workspace = Workspace.open(options.out)
    ensemble = load_ensemble(options.model)
    with connect(options.address):
        report = predict(
            ensemble, options.videos, workspace, crop=options.crop, template=options.template, store=options.store
        )
    for line in report.lines():
        print(line)
    return 1 if report.quarantined else 0


if __name__ == "__main__":
    run(main, Predict)
