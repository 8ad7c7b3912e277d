"""Synthetic corpora of Aff-Wild2's shape for the benchmarks of training, written once and kept beside their models."""

from __future__ import annotations

import os
from pathlib import Path

from affectgrid.analysis.scale import prepare_scale
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.splits.feed import FeedOptions
from affectgrid.data.splits.resident import Split, StreamRows
from affectgrid.synthetic.scale_corpus import ScaleConfig, ScaleCorpus, write_corpus
from affectgrid.training.config import TrainConfig
from affectgrid.training.data import PreparedData

CACHE = Path(os.environ.get("AFFECTGRID_CACHE", Path.home() / ".cache" / "affectgrid")) / "benchmarks"
SMALL = 0.02  # of Aff-Wild2's frames: 41 thousand
FULL = float(os.environ.get("AFFECTGRID_BENCH_SCALE", "1"))  # of the benchmark of memory


def corpus(scale: float) -> ScaleCorpus:
    """The corpus of that size."""
    config = ScaleConfig(scale=scale)
    root = CACHE / "scale" / config.fingerprint("visual")
    return write_corpus(root, FeatureStore(CACHE / "scale" / "features"), config)


def prepared(scale: float, mode: str = "resident") -> PreparedData:
    """Its splits and prompts."""
    options = FeedOptions.model_validate({"mode": mode})
    return prepare_scale(corpus(scale), TrainConfig(), options, CACHE / "scale" / "mapped")


def few(split: Split, num_tracks: int) -> Split:
    """The first tracks of a split."""
    stop = int(split.offsets[num_tracks])
    cut = {name: getattr(split, name)[:stop] for name in ("frame_index", "time_s", "va", "labelled")}
    streams = {name: StreamRows(own.feature[:stop], own.present[:stop]) for name, own in split.streams.items()}
    names, offsets = split.track_ids[:num_tracks], split.offsets[: num_tracks + 1]
    return Split(name=split.name, track_ids=names, offsets=offsets, encoders=split.encoders, streams=streams, **cut)
