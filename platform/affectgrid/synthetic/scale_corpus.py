"""A synthetic corpus of Aff-Wild2's size and shape: drawn features and labels, no video, nobody's face or voice.

It goes through the real feature store and real annotation files, so that what is measured on it (time, memory) holds
for the data set; its scores mean nothing beyond "a model can learn the relation that was planted".
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import ndtr, ndtri

from affectgrid.data.annotations import Annotation, write_annotation
from affectgrid.data.catalog import Catalog, read_aff_wild2
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.table import FeatureTable
from affectgrid.settings import Settings
from affectgrid.synthetic.rendered.paths import slow_signal

ENCODER = "synthetic"  # what the files, and every report, name as their encoder
MIN_FRAMES, MAX_FRAMES = 73, 47_435  # frames of Aff-Wild2's shortest and longest track
_VERSION = 1
_FRAMES = {"train": 1_684_000, "validation": 383_000}
_TRACKS = {"train": 356, "validation": 76}
_FOLDERS = {"train": "Train_Set", "validation": "Validation_Set"}
_LENGTH_SPREAD = 1.1  # standard deviation of log length: this project's guess, which fits the mean and both ends
_RATES_HZ, _RATE_SHARES = (30.0, 25.0, 24.0, 15.0, 7.5), (0.75, 0.12, 0.08, 0.03, 0.02)
_HOP_S = 0.2
# Share of frames below -1/3, between, above 1/3: with independent axes the centre holds .50, low arousal .02 in all.
_VALENCE_SHARES, _AROUSAL_SHARES = (0.14, 0.64, 0.22), (0.02, 0.78, 0.20)
_BETWEEN = 0.5  # share of a label's variance that lies between tracks
# What each stream shows of (valence, arousal): standard deviation of a slow disturbance over that of the truth.
_DISTURBANCE = {"visual": (0.7, 1.2), "audio": (1.6, 0.9)}
_NUM_FACTORS, _WIDTH = 8, 32  # what a feature depends on (2 tell of affect), and the hidden layer that mixes it


class ScaleConfig(Settings):
    """Size and seed of the synthetic corpus. Equal values make equal bytes."""

    scale: float = Field(1.0, gt=0, le=1, description="share of Aff-Wild2's frames; tracks and lengths shrink alike")
    seed: int = Field(0, ge=0)
    visual_dim: int = Field(512, ge=1, description="CLIP ViT-B's")
    audio_dim: int = Field(768, ge=1, description="AST's")

    def fingerprint(self, stream: str) -> str:
        """Names the stream's folder in the store."""
        facts = [ENCODER, _VERSION, stream, self.model_dump()]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    @property
    def num_frames(self) -> int:
        """Labelled or not, of both splits."""
        return int(sum(track_lengths(split, self).sum() for split in _TRACKS))


@dataclasses.dataclass(frozen=True)
class ScaleCorpus:
    """Where a synthetic corpus lies: annotations in Aff-Wild2's layout, features in a store."""

    config: ScaleConfig
    catalog: Catalog
    store: FeatureStore


def track_lengths(split: str, config: ScaleConfig) -> NDArray[np.int64]:
    """Frames of every track of a split, ascending: log-normal, cut at Aff-Wild2's ends, with its number of frames."""
    shrink = math.sqrt(config.scale)
    count = max(2, round(_TRACKS[split] * shrink))
    total = max(count * MIN_FRAMES, round(_FRAMES[split] * config.scale))
    longest = max(MIN_FRAMES, min(round(MAX_FRAMES * shrink), total // 3))
    spread = np.exp(_LENGTH_SPREAD * ndtri((np.arange(count) + 0.5) / count))

    def lengths(median: float) -> NDArray[np.int64]:
        drawn = np.clip(np.round(median * spread), MIN_FRAMES, longest).astype(np.int64)
        drawn[0], drawn[-1] = MIN_FRAMES, longest
        return drawn

    low, high = 1.0, float(MAX_FRAMES)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if lengths(middle).sum() < total else (low, middle)
    return lengths(high)


def write_corpus(
    root: Path, store: FeatureStore, config: ScaleConfig, on_track: Callable[[int], None] = lambda frames: None
) -> ScaleCorpus:
    """Write what is not there yet; `on_track` hears of the frames of each track. Raises StoreError."""
    number = 0
    for stream in ("visual", "audio"):
        settings = {"model": ENCODER, **config.model_dump()}
        store.write_spec(stream, config.fingerprint(stream), {"stream": settings, "encoder": ENCODER})
    for split, folder in _FOLDERS.items():
        lengths = np.random.default_rng([config.seed, number]).permutation(track_lengths(split, config))
        offsets = _offsets(len(lengths), np.random.default_rng([config.seed, 1, number]))
        labels = root / "VA_Estimation_Challenge" / folder
        labels.mkdir(parents=True, exist_ok=True)
        for place, (num_frames, offset) in enumerate(zip(lengths.tolist(), offsets, strict=True)):
            name = f"synthetic-{split}-{place:03d}"
            if not _is_there(store, config, name, labels / f"{name}.txt"):
                rng = np.random.default_rng([config.seed, 2, number])
                _write_track(store, config, name, labels / f"{name}.txt", num_frames, offset, rng)
            on_track(num_frames)
            number += 1
    return ScaleCorpus(config, read_aff_wild2(root), store)


def _is_there(store: FeatureStore, config: ScaleConfig, name: str, labels: Path) -> bool:
    streams = ("visual", "audio")
    return labels.is_file() and all(store.has(stream, config.fingerprint(stream), name) for stream in streams)


def _offsets(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Where each track's affect is centred, [track, 2]: a normal sample without the luck of the draw."""
    grid = ndtri((np.arange(count) + 0.5) / count)
    return math.sqrt(_BETWEEN) * np.stack([rng.permutation(grid), rng.permutation(grid)], 1)


class _Track:
    """One track as functions of time: standard normal affect, and the factors that each stream shows."""

    def __init__(self, offset: NDArray[np.float64], rng: np.random.Generator) -> None:
        self.offset = offset
        self.within = [slow_signal(rng, low_hz=0.01, high_hz=0.3) for _ in range(2)]
        self.disturbances = {s: [slow_signal(rng, low_hz=0.005, high_hz=0.2) for _ in range(2)] for s in _DISTURBANCE}
        self.nuisances = {
            s: [slow_signal(rng, low_hz=0.005, high_hz=0.5) for _ in range(_NUM_FACTORS - 2)] for s in _DISTURBANCE
        }

    def affect(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """[time, 2], close to standard normal over all tracks."""
        moving = np.stack([signal(time_s) for signal in self.within], 1)
        return self.offset + math.sqrt(1 - _BETWEEN) * moving

    def factors(self, stream: str, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """[time, factor]: disturbed affect first."""
        slow = np.stack([signal(time_s) for signal in self.disturbances[stream]], 1)
        shown = self.affect(time_s) + np.array(_DISTURBANCE[stream]) * slow
        return np.concatenate([shown, np.stack([signal(time_s) for signal in self.nuisances[stream]], 1)], 1)


def _write_track(
    store: FeatureStore,
    config: ScaleConfig,
    name: str,
    labels: Path,
    num_frames: int,
    offset: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    track = _Track(offset, rng)
    rate_hz = float(rng.choice(_RATES_HZ, p=_RATE_SHARES))
    # the counts of frames and of labels differ by a few, as in the data set
    frame_s = np.arange(num_frames + int(rng.integers(0, 4))) / rate_hz
    hop_s = np.arange(0, frame_s[-1] + _HOP_S, _HOP_S)
    for stream, time_s, dim, gaps in (
        ("visual", frame_s, config.visual_dim, 0.03),
        ("audio", hop_s, config.audio_dim, 0.01),
    ):
        present = ~_bursts(len(time_s), gaps, rng)
        feature = _features(config, stream, dim, track.factors(stream, time_s), rng)
        feature[~present] = 0
        index = np.arange(1, len(time_s) + 1, dtype=np.int32)
        print_ = config.fingerprint(stream)
        store.write_part(stream, print_, name, 0, FeatureTable(index, time_s, present, feature))
        store.finalize(stream, print_, name, 1, {"encoder": ENCODER, "source_sha256": f"synthetic-{config.seed}"})
    valid = ~_bursts(num_frames, 0.02, rng)
    write_annotation(labels, Annotation(_to_labels(track.affect(frame_s[:num_frames])), valid))


def _to_labels(affect: NDArray[np.float64]) -> NDArray[np.float32]:
    """Normal scores to valence and arousal with the wanted share of each third of the axes, float32 [frame, 2]."""
    edges = (-1.0, -1 / 3, 1 / 3, 1.0)
    columns = [
        np.interp(ndtr(affect[:, axis]), np.cumsum([0, *shares]), edges)
        for axis, shares in enumerate((_VALENCE_SHARES, _AROUSAL_SHARES))
    ]
    return np.stack(columns, 1).round(4).astype(np.float32)


def _features(
    config: ScaleConfig, stream: str, dim: int, factors: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float16]:
    """A fixed random network of the factors, a constant for the track's person, and noise: float16 [time, dim].

    As with real encoders, what moves is small beside what stays.
    """
    fixed = np.random.default_rng([config.seed, 3, len(stream)])
    enter = fixed.standard_normal((_NUM_FACTORS, _WIDTH)) / math.sqrt(_NUM_FACTORS)
    leave = (fixed.standard_normal((_WIDTH, dim)) / math.sqrt(_WIDTH)).astype(np.float32)
    person = (2 * fixed.standard_normal(dim) + 0.3 * rng.standard_normal(dim)).astype(np.float32)
    feature = rng.standard_normal((len(factors), dim), dtype=np.float32)
    feature *= 0.5
    feature += np.tanh(factors @ enter).astype(np.float32) @ leave
    feature += person
    return feature.astype(np.float16)


def _bursts(count: int, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Runs of twenty, which cover about `share` of a track and never its first row."""
    lost = np.zeros(count, np.bool_)
    for start in rng.integers(1, count + 1, rng.poisson(share * count / 20)):
        lost[start : start + 20] = True
    return lost
