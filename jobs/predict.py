"""Predict valence and arousal of every frame of any videos, or write the challenge's file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from tyro.conf import Positional

from affectgrid.cli import JobOptions, run
from affectgrid.distributed.options import StoreOption, TracksOption


class Predict(JobOptions, StoreOption, TracksOption):
    """Encode videos as the models' training data were, predict, write a table and a picture each. Status 1: no face."""

    videos: Positional[tuple[str, ...]] = Field(
        min_length=1, description="videos, folders of videos, or a folder in Aff-Wild2's layout; paths or URIs"
    )
    model: tuple[str, ...] = Field(
        (),
        description="model packages, one ensemble.json, or models of MLflow (models:/NAME@champion); by default the "
        "best of the newest study under OUT",
    )
    crop: Literal["crops", "detect", "frame"] | None = Field(
        None, description="where faces come from; by default the crops that are there, else a detector"
    )
    overlay: bool = Field(False, description="write each video again, with box, point and traces drawn in")
    template: Path | None = Field(None, description="the challenge's template: write submission.txt in its order")
    fill: Literal["hold", "neutral", "model"] | None = Field(
        None,
        description="frames without a face, or that the template asks for and no video has: the last prediction, 0, 0, "
        "or, without a face, what the model says; by default empty",
    )


def main(options: Predict) -> int:
    # here, not above: torch and Ray take seconds, and --help or a wrong option needs neither
    from affectgrid.distributed.predict import is_short, predict
    from affectgrid.distributed.session import connected, open_models
    from affectgrid.reporting.caveat import caveat
    from affectgrid.reporting.scores import absent_lines, face_lines, prediction_lines

    ensemble = open_models(options.model, options.out)
    with connected(options.out, options.address, alone=is_short(options.videos)) as workspace:
        how = options.model_dump(include={"tracks", "crop", "template", "fill", "store", "overlay"})
        report = predict(ensemble, options.videos, workspace, **how)
    lost = {failure.track: failure.reason for failure in report.quarantined}
    counts, note = (report.tracks, report.frames), caveat(report.encoders)
    print(*prediction_lines(report.place.address, *counts, report.submission, report.filled, note, lost), sep="\n")
    for line in (*face_lines(report.faces, report.lengths), *absent_lines(report.without)):
        print(line)
    return 1 if report.quarantined or report.faceless else 0


if __name__ == "__main__":
    run(main, Predict)
