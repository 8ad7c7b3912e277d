"""Predict valence and arousal of every frame of any videos, or write the challenge's file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from affectgrid.cli import JobOptions, run
from affectgrid.distributed.options import ModelOption, StoreOption, TracksOption


class Predict(JobOptions, ModelOption, StoreOption, TracksOption):
    """Encode the videos as the models' training data were, predict, and write a CSV file per track."""

    videos: str = Field(description="a video, a folder of videos, or a folder in Aff-Wild2's layout; or its URI")
    crop: Literal["crops", "detect", "frame"] | None = Field(
        None, description="where faces come from; by default the crops that are there, else a detector"
    )
    template: Path | None = Field(None, description="the challenge's template: write submission.txt in its order")
    fill: Literal["hold", "neutral"] | None = Field(
        None, description="what the template asks for and no video has: the track's last prediction, or 0, 0"
    )


def main(options: Predict) -> int:
    # here, not above: torch and Ray take seconds, and --help or a wrong option needs neither
    from affectgrid.distributed.predict import predict
    from affectgrid.distributed.session import connected
    from affectgrid.reporting.caveat import caveat
    from affectgrid.reporting.scores import absent_lines, prediction_lines
    from affectgrid.training.inference.ensemble import load_ensemble

    ensemble = load_ensemble(options.model)
    with connected(options.out, options.address) as workspace:
        report = predict(
            ensemble,
            options.videos,
            workspace,
            tracks=options.tracks,
            crop=options.crop,
            template=options.template,
            fill=options.fill,
            store=options.store,
        )
    lost = {failure.track: failure.reason for failure in report.quarantined}
    counts, note = (report.tracks, report.frames), caveat(report.encoders)
    print(*prediction_lines(report.place.address, *counts, report.submission, report.filled, note, lost), sep="\n")
    print(*absent_lines(report.without), sep="\n", end="\n" if report.without else "")
    return 1 if report.quarantined else 0


if __name__ == "__main__":
    run(main, Predict)
