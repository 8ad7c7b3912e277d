"""Splits with a planted relation: features are a noisy linear image of a smooth path on the plane."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from affectgrid.data.splits.resident import Split, StreamRows
from affectgrid.regions import RegionGrid
from affectgrid.training.config import TrainConfig
from affectgrid.training.data import EncodedPrompts, PreparedData

VISUAL_DIM, AUDIO_DIM, TEXT_DIM = 6, 4, 5
PLANTED_SPLITS = "".join(
    ["track,split\n", *(f"train-{n},train\n" for n in range(6)), *(f"validation-{n},validation\n" for n in range(3))]
)
DIMS = {"visual": VISUAL_DIM, "audio": AUDIO_DIM}


def planted_split(name: str, lengths: Sequence[int], *, seed: int = 0, noise: float = 0.1) -> Split:
    """Visual features show valence, audio features arousal; every 11th frame has no label, some lack a stream."""
    draw, mapping = np.random.default_rng([seed, len(name)]), np.random.default_rng(0)
    num_rows = sum(lengths)
    phase = np.repeat(draw.uniform(0, 2 * np.pi, len(lengths)), lengths)
    time_s = np.concatenate([np.arange(n) for n in lengths]) / 30
    va = 0.7 * np.stack([np.sin(2 * time_s + phase), np.cos(1.3 * time_s + 2 * phase)], 1)
    visual = va[:, :1] * mapping.normal(size=VISUAL_DIM) + noise * draw.normal(size=(num_rows, VISUAL_DIM))
    audio = va[:, 1:] * mapping.normal(size=AUDIO_DIM) + noise * draw.normal(size=(num_rows, AUDIO_DIM))
    row = np.arange(num_rows)
    return Split(
        name=name,
        track_ids=tuple(f"{name}-{number}" for number in range(len(lengths))),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        frame_index=np.concatenate([np.arange(1, n + 1) for n in lengths]).astype(np.int32),
        time_s=time_s,
        streams={
            "visual": StreamRows(visual.astype(np.float16), row % 13 != 0),
            "audio": StreamRows(audio.astype(np.float16), row % 17 != 0),
        },
        va=va.astype(np.float32),
        labelled=row % 11 != 0,
        encoders={"visual": "planted", "audio": "planted"},
    )


def with_streams(split: Split, **columns: NDArray[Any]) -> Split:
    """A copy with other columns: ``visual``, ``audio_present`` and so on; the others are copied too."""
    streams = {
        name: StreamRows(
            columns.get(name, stream.feature.copy()), columns.get(f"{name}_present", stream.present.copy())
        )
        for name, stream in split.streams.items()
    }
    return dataclasses.replace(split, streams=streams)


def columns_of(split: Split) -> dict[str, NDArray[Any]]:
    """Every array of a split, also those of its streams, by the names that a plan gives them."""
    values = {field.name: getattr(split, field.name) for field in dataclasses.fields(Split)}
    found = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    for name, stream in split.streams.items():
        found |= {f"{name}.feature": stream.feature, f"{name}.present": stream.present}
    return found


def planted_prompts(grid: RegionGrid | None = None) -> EncodedPrompts:
    """Two random texts per region."""
    grid = grid or RegionGrid.square(3)
    generator = torch.Generator().manual_seed(0)
    texts = tuple(torch.randn(2, TEXT_DIM, generator=generator) for _ in range(grid.num_regions))
    return EncodedPrompts("3x3-plain", grid, texts)


def tiny_prompts(store: Path, name: str = "3x3-plain") -> EncodedPrompts:
    """A prompt file through the tiny text encoder, which comes along for prompt mode `context`."""
    from affectgrid.encoders.visual import load_visual  # seconds of imports that most tests can do without
    from affectgrid.training.text_features import encode_prompts

    return encode_prompts([name], load_visual("tiny"), store, modes=["ensemble", "context"])[name]


def planted_data(prompts: EncodedPrompts | None = None) -> PreparedData:
    """A corpus that a small model learns within seconds; by default with `planted_prompts`."""
    return PreparedData(
        train=planted_split("train", [40, 25, 60, 31, 50, 18]),
        validation=planted_split("validation", [35, 20, 44], seed=1),
        prompts={"3x3-plain": prompts or planted_prompts()},
        fingerprint="planted",
        splits=PLANTED_SPLITS,
    )


def small_config(**settings: object) -> TrainConfig:
    """A few seconds' run; `settings` are dotted names with two underscores for the dot."""
    values: dict[str, Any] = {
        "model": {"hidden_dim": 16, "num_heads": 2},
        "window": {"length": 24, "stride": 16},
        "optim": {"epochs": 3, "batch_size": 4, "lr": 5e-3},
    }
    for name, value in settings.items():
        section, dots, field = name.partition("__")
        values |= {section: values.get(section, {}) | {field: value}} if dots else {name: value}
    return TrainConfig.model_validate(values)
