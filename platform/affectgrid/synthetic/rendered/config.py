"""Configuration of a rendered corpus."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class RenderConfig(BaseModel):
    """Size, seed and difficulty of the rendered corpus. Two renderings with equal values hold equal bytes.

    The four ``seen`` and ``heard`` noise levels are standard deviations, in units of valence or arousal, of slow
    disturbances that hide the true value in the face or in the voice: the larger, the less that stream tells. Set so
    that a small model reaches a validation P near 0.7 with tiny encoders, and both streams together beat either one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_train: int = Field(28, ge=1, description="training videos")
    num_validation: int = Field(12, ge=1, description="validation videos")
    num_test: int = Field(1, ge=0, description="videos without annotations")
    duration_s: float = Field(18.0, ge=2, description="mean length of a video; single ones differ by up to a third")
    seed: int = Field(0, ge=0)
    seen_valence_noise: float = Field(0.25, ge=0)
    seen_arousal_noise: float = Field(0.55, ge=0)
    heard_valence_noise: float = Field(0.70, ge=0)
    heard_arousal_noise: float = Field(0.25, ge=0)
    annotator_noise: float = Field(0.03, ge=0, description="a rater's own smooth wandering about the true value")
