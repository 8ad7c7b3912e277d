"""Settings that a stream's numbers depend on, hashed to the fingerprint that names its folder in the store."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from tyro.conf import Suppress

from affectgrid.errors import ConfigError, Problem
from affectgrid.settings import COMPUTES, AudioPooling, Precision, RuntimeName, Settings

SCHEMA_VERSION = 1  # raise it when the meaning of a stored number changes

_RUNTIME = "what computes the encoder; openvino: on processors, with `pip install 'affectgrid[openvino]'`"
_PRECISION = "of the arithmetic; auto: half where it is faster and the features keep a cosine of .999 with fp32's"
BY_DIGEST = frozenset({"runtime", "precision"})  # settings that count through the encoder's digest

_Causal = Annotated[bool, Suppress]  # not on the command line: EncodeConfig.causal sets it in both streams

# Settings that came later: at these values stores from before there was a choice keep their names.
_LATER = {
    "causal": False,
    "layer": None,
    "pooling": "model",
    "skip_unchanged": None,
    "skip_at_most": 5,
    "detector": "dlib",
    "upright": False,
}

# The libraries whose major version may change a feature: decoding, and the encoders of each stream.
_LIBRARIES = {
    "visual": ("av", "numpy", "pillow", "torch", "torchvision", "open_clip_torch"),
    "audio": ("av", "numpy", "torch", "transformers"),
}
_RUNTIME_LIBRARIES: dict[RuntimeName, tuple[str, ...]] = {"torch": (), "openvino": ("openvino",)}


class VisualStream(Settings):
    """One feature per video frame, or per point of a regular grid of times."""

    kind: Literal["visual"] = "visual"
    model: str = Field(
        "tiny", description="open_clip model/weights, timm/ or transformers/ and a hub name, a local directory, or tiny"
    )
    runtime: RuntimeName = Field("torch", description=_RUNTIME)
    precision: Precision = Field("auto", description=_PRECISION)
    crop: Literal["crops", "detect", "frame"] = Field(
        "crops", description="the data set's own face crops, a detector on each frame, or the whole frame"
    )
    margin: float = Field(0.2, ge=0, le=2, description="context around a detected face, as a share of its size")
    frame_rate_hz: float | None = Field(
        None,
        gt=0,
        description="encode only the frames nearest to this rate, in Hz; others are interpolated when loaded",
    )
    detect_every: int = Field(1, ge=1, description="detect a face in every k-th encoded frame and track it between")
    skip_unchanged: float | None = Field(
        None,
        gt=0,
        lt=255,
        description="a frame in which no part of the face has changed by so many grey levels takes the features of the "
        "last one that was encoded; default: every frame is encoded",
    )
    skip_at_most: int = Field(5, ge=2, description="with skip_unchanged, every k-th frame is encoded in any case")
    frames: Literal["all", "labelled"] = Field(
        "all", description="which frames are encoded; labelled: without those whose label is -5 or missing"
    )
    detector: Literal["dlib", "mtcnn"] = Field(
        "dlib", description="what finds faces; mtcnn: also those turned aside, hidden in part, or small"
    )
    upright: bool = Field(False, description="turn detected faces upright by the five points that mtcnn finds")
    landmarks: Path | None = Field(
        None,
        description="dlib shape predictor (5 or 68 points) to turn detected faces upright; default: none",
    )
    causal: _Causal = Field(False, description="between the frames of a rate the last one is held")

    @model_validator(mode="after")
    def _is_computed(self) -> Self:
        _require_computed(self)
        return self

    @model_validator(mode="after")
    def _one_way_to_skip(self) -> Self:
        if self.skip_unchanged is not None and self.frame_rate_hz is not None:
            raise ValueError("skip_unchanged compares neighbouring frames, and frame_rate_hz leaves most out; give one")
        return self

    @model_validator(mode="after")
    def _one_way_upright(self) -> Self:
        if self.upright and self.detector != "mtcnn":
            raise ValueError("upright needs the points that detector mtcnn finds; with dlib give a file of landmarks")
        if self.landmarks is not None and self.detector != "dlib":
            raise ValueError("landmarks fit the boxes of detector dlib; with mtcnn give upright")
        return self

    @property
    def look_ahead_s(self) -> float:
        """How much later than a frame a picture may be that enters its features, in seconds."""
        return 0.0 if self.causal or self.frame_rate_hz is None else 1 / self.frame_rate_hz


class AudioStream(Settings):
    """One feature per hop, from a window of sound centred on it, or ending there if `causal`."""

    kind: Literal["audio"] = "audio"
    model: str = Field("tiny", description="transformers audio model, a local directory, or tiny")
    runtime: RuntimeName = Field("torch", description=_RUNTIME)
    precision: Precision = Field("auto", description=_PRECISION)
    sample_rate_hz: int = Field(16_000, gt=0)
    window_s: float = Field(1.0, gt=0, description="length of sound behind one feature, in seconds")
    hop_s: float = Field(0.2, gt=0, description="time between two features, in seconds")
    causal: _Causal = Field(False, description="windows end at their hop, and the last hop is held")
    layer: int | None = Field(
        None, description="hidden layer to read: 0 is the embedding, -1 the last; default: the model's own output"
    )
    pooling: AudioPooling = Field(
        "model", description="over a window: as the model does it, the mean of its states, or that and their deviation"
    )

    @model_validator(mode="after")
    def _is_computed(self) -> Self:
        _require_computed(self)
        return self

    @property
    def look_ahead_s(self) -> float:
        """How much later than a frame a sound may be that enters its features, in seconds."""
        return 0.0 if self.causal else self.window_s / 2 + self.hop_s


Stream = VisualStream | AudioStream


def _require_computed(stream: Stream) -> None:
    if stream.precision not in COMPUTES[stream.runtime]:
        others = [name for name, precisions in COMPUTES.items() if stream.precision in precisions]
        raise ConfigError(
            Problem(
                "CFG-RUNTIME",
                where=f"encode.{stream.kind}",
                found=f"precision {stream.precision} with runtime {stream.runtime}",
                expected=f"one of {', '.join(COMPUTES[stream.runtime])}",
                hint=f"take one of these, or runtime {others[0]}",
            )
        )


def streams_of(encoders: Mapping[str, str]) -> tuple[VisualStream, AudioStream]:
    """The settings of both streams of a split, a study or a model package. Raises KeyError where there are none."""
    visual = VisualStream.model_validate_json(encoders["visual_stream"])
    return visual, AudioStream.model_validate_json(encoders["audio_stream"])


def look_ahead_s(encoders: Mapping[str, str]) -> float | None:
    """How much later than a frame something may be that enters its features, in seconds; 0 where they are causal.

    `encoders`: of a split, a study or a model package, which have the settings of both streams. None where they do not.
    """
    try:
        visual, audio = streams_of(encoders)
    except KeyError:  # features that no encoder made
        return None
    return max(visual.look_ahead_s, audio.look_ahead_s)


def fingerprint(stream: Stream, encoder_digest: str) -> str:
    """16 hexadecimal digits over everything that changes the stored numbers.

    ``encoder_digest`` is the hash of the weights and of their resolved precision, so different weights under one name
    never share a folder. (The same weights under two names do not either: the name is a setting, too.)
    """
    return hashlib.sha256(json.dumps(describe(stream, encoder_digest), sort_keys=True).encode()).hexdigest()[:16]


def describe(stream: Stream, encoder_digest: str) -> dict[str, object]:
    """The text that ``fingerprint`` hashes, kept beside the features as fingerprint.json.

    Runtime and precision count through the digest, where ``auto`` has been resolved; a landmark file counts by its
    content.
    """
    settings = stream.model_dump(mode="json", exclude=set(BY_DIGEST))
    for name, default in _LATER.items():
        if settings.get(name) == default:
            settings.pop(name, None)
    if isinstance(stream, VisualStream) and stream.landmarks:
        settings["landmarks"] = hashlib.sha256(stream.landmarks.read_bytes()).hexdigest()
    return {
        "schema": SCHEMA_VERSION,
        "stream": settings,
        "encoder": encoder_digest,
        "libraries": {name: _major(name) for name in (*_LIBRARIES[stream.kind], *_RUNTIME_LIBRARIES[stream.runtime])},
    }


def _major(library: str) -> str:
    try:
        return importlib.metadata.version(library).split(".")[0]
    except importlib.metadata.PackageNotFoundError:
        return "absent"
