"""Predict valence and arousal of a camera, a network stream or a file while it plays, with a causal model."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from tyro.conf import Positional

from affectgrid.cli import OutOption, run


class Live(OutOption):
    """Follow a source. Frames that cannot be kept up with are dropped and counted; the latency is told at the end."""

    source: Positional[str] = Field(
        description="number of a camera, rtsp://..., or a file, which plays at its own pace"
    )
    model: str | None = Field(None, description="a causal model package; by default the best of the newest study")
    seconds: float | None = Field(None, gt=0, description="when to stop; by default when the source ends")
    detect_every: int = Field(3, ge=1, description="a face is looked for in every k-th frame, and followed between")
    csv: Path | None = Field(None, description="file for the prediction of every frame")


def main(options: Live) -> int:
    # here, not above: torch takes seconds, and --help or a wrong option needs none
    import torch

    from affectgrid.data.workspace import Workspace
    from affectgrid.reporting.caveat import caveat
    from affectgrid.reporting.look.live import follow, tell
    from affectgrid.training.inference.ensemble import load_ensemble

    torch.set_num_threads(1)  # the reading thread has the other core
    ensemble = load_ensemble([options.model or Workspace.open(options.out).newest_model()])
    package = ensemble.members[0]
    note = caveat(package.encoders[stream] for stream in ("visual", "audio"))
    if note:
        print(note)
    predictions = follow(options.source, package, seconds=options.seconds, detect_every=options.detect_every)
    for line in tell(predictions, options.csv):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    run(main, Live)
