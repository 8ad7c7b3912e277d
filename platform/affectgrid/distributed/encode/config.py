"""Configuration of an encode run. Light to import: a job checks its options before it loads torch and Ray."""

from __future__ import annotations

import uuid
from typing import Literal, Self

from pydantic import Field, model_validator

from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.distributed.encode.sandbox import Limits
from affectgrid.settings import Settings


class EncodeConfig(Settings):
    """What is encoded, and how the work is spread. `visual`, `audio` and `causal` change the numbers."""

    visual: VisualStream = VisualStream()
    audio: AudioStream = AudioStream()
    causal: bool = Field(
        False,
        description="nothing later than a frame enters its features, for causal models: windows of sound end at their "
        "hop, and what lies between hops, or between the frames of a rate, has the last one",
    )
    chunk_frames: int = Field(256, gt=0, description="video frames in a unit of work")
    chunk_hops: int = Field(600, gt=0, description="audio hops in a unit of work")
    batch_size: int | None = Field(
        None,
        gt=0,
        description="most images, or sound windows, in one forward pass; default: 16 on a processor, 256 on a GPU; "
        "halved where a GPU's memory is full",
    )
    placement: Literal["auto", "fused", "split"] = Field(
        "auto",
        description="fused: decode and encode in one process; split: in separate ones; auto: split where GPUs are",
    )
    encoders: int | None = Field(
        None, gt=0, description="encoder processes; default: one per GPU; without GPUs one per core, split half of them"
    )
    time_limit_s: float = Field(300, gt=0, description="longest time to decode 16 frames, or the sound of a chunk")
    memory_limit_gb: float = Field(
        4, gt=0, description="most memory to decode 16 frames, or the sound of a chunk, in GiB"
    )
    tries: int = Field(3, gt=0, description="tries for a chunk whose decoder crashes or hangs")
    on_error: Literal["skip", "stop"] = Field("skip", description="continue without a track that fails, or stop")
    retry_quarantined: bool = Field(False, description="retry tracks that failed before, although unchanged")

    @model_validator(mode="after")
    def _causal_streams(self) -> Self:
        if self.causal:
            for name in ("visual", "audio"):
                stream = getattr(self, name).model_copy(update={"causal": True})
                object.__setattr__(self, name, stream)  # the model is frozen
        return self

    @property
    def limits(self) -> Limits:
        """The guard's limits, for a new run."""
        return Limits(self.time_limit_s, int(self.memory_limit_gb * 2**30), self.tries, uuid.uuid4().hex)
