"""Score a model package on a split: CCC with intervals over tracks, error by region, figures."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT / "platform")  # this checkout, not an installed copy

from pydantic import Field

from affectgrid.cli import run
from affectgrid.data.workspace import Workspace
from affectgrid.distributed.cluster import connect
from affectgrid.distributed.prepare import DataOptions, encode_data
from affectgrid.reporting.scores import caveat, print_scores, write_scores
from affectgrid.settings import Settings
from affectgrid.training.inference import evaluate, predict_split
from affectgrid.training.package import load_package


class Evaluate(Settings):
    """Score a model; its own stream settings say how the data are encoded."""

    model: Path = Field(description="a model package: the folder that train or tune wrote")
    data: str = Field("rendered", description="a folder in Aff-Wild2's layout, or 'rendered'")
    split: str = Field("validation", description="train, validation or test")
    out: Path = Field(ROOT / "outputs", description="folder of features; scores and figures go to OUT/evaluations")
    address: str | None = Field(None, description="Ray cluster to join; by default RAY_ADDRESS, else a private one")


def main(options: Evaluate) -> int:
    workspace = Workspace.open(options.out)
    package = load_package(options.model)
    with connect(options.address):
        encoded = encode_data(DataOptions.for_package(options.data, package.encoders), workspace)
    split = encoded.split(options.split)
    predictions = predict_split(package.model, split, package.config.window)
    scores = evaluate(predictions, split, package.grid)
    folder = workspace.root / "evaluations" / f"{options.model.resolve().parent.name}-{options.split}"
    note = caveat(package.encoders, options.data)
    write_scores(folder, scores, predictions, split, package, note)
    print_scores(scores, note, folder)
    return 0


if __name__ == "__main__":
    run(main, Evaluate)
