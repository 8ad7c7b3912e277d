"""Options of jobs about data. Light to import: a job checks its options before it loads torch and Ray."""

from __future__ import annotations

from pydantic import Field

from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.data.splits.feed import FeedOptions
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.settings import Settings

RENDERED = "rendered"


class StoreOption(Settings):
    """Where features are stored."""

    store: str | None = Field(
        None, description="feature store: a folder or a URI such as s3://bucket/features; default: OUT/features"
    )


class DataOptions(StoreOption):
    """Which data, and how they are encoded."""

    data: str = Field(RENDERED, description="folder or URI in Aff-Wild2's layout, or 'rendered', the corpus drawn here")
    encode: EncodeConfig = EncodeConfig()
    feed: FeedOptions = FeedOptions()

    @classmethod
    def for_package(cls, data: str, encoders: dict[str, str]) -> DataOptions:
        """Encode `data` as the training data of a model package were encoded; `encoders` comes from the package."""
        visual = VisualStream.model_validate_json(encoders["visual_stream"])
        audio = AudioStream.model_validate_json(encoders["audio_stream"])
        return cls(data=data, encode=EncodeConfig(visual=visual, audio=audio))
