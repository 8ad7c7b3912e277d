"""What a plan is asked for. Light to import: a job checks its options before anything else."""

from __future__ import annotations

from pydantic import Field

from affectgrid.analysis.capacity.conditions import Conditions
from affectgrid.settings import Settings


class StreamTimes(Settings):
    """An encoder, and what is known of its speed."""

    model: str = Field(description="name of the encoder, as encode takes it")
    dim: int = Field(gt=0, description="length of a feature")
    runtime: str | None = Field(None, description="of an earlier run whose times count; default: of the newest")
    precision: str | None = Field(None, description="likewise")
    decode_ms: float | None = Field(None, ge=0, description="of a core, to decode a unit; default: as measured before")
    encode_ms: float | None = Field(
        None, ge=0, description="of a core, or of a GPU, to encode a unit; default: as measured before"
    )


class PlanOptions(Settings):
    """A corpus, a search and machines."""

    hours: float = Field(description="of video to encode; more than 0")
    track_minutes: float = Field(5, gt=0, description="mean length of a video")
    frame_rate_hz: float = Field(30, gt=0, description="frames a second that are encoded")
    hop_s: float = Field(0.2, gt=0, description="seconds between two windows of sound")
    chunk_frames: int = Field(256, gt=0, description="as in encode: frames in a unit of work")
    chunk_hops: int = Field(600, gt=0, description="as in encode: windows of sound in a unit of work")
    visual: StreamTimes = StreamTimes(model="ViT-B-32", dim=512)
    audio: StreamTimes = StreamTimes(model="ast", dim=768)

    trials: int = Field(0, ge=0, description="of a search on the features; 0: none")
    epochs: int = Field(20, gt=0, description="of a trial")
    labelled_hours: float | None = Field(None, gt=0, description="of the video that a trial reads; default: all hours")
    asha: bool = Field(False, description="weak trials are stopped early")
    windows_s: float = Field(80, gt=0, description="windows a second that a trial trains; 80: width 64 on one core")
    model_mb: float = Field(8.4, gt=0, description="size of a model; 8.4: width 256")

    machines: tuple[str, ...] = Field(
        ("c7i.4xlarge", "g6.2xlarge"),
        min_length=1,
        description="one kind or two, by name or as 64cpu+4gpu@3.2 (USD an hour); of two the best numbers are found",
    )
    nodes: int = Field(12, gt=0, description="machines in all")
    runs: int = Field(1, gt=0, description="encode commands side by side, each with machines and tracks of its own")
    conditions: Conditions = Conditions()
    simulate: int = Field(0, ge=0, description="courses of the plan to simulate, chunk by chunk; 0: none")
