"""The synthetic corpus: Aff-Wild2's sizes, lengths and occupancy, the real formats, and a relation to be learnt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from affectgrid.analysis.scale import run_scale
from affectgrid.data.annotations import read_annotation
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.splits.feed import FeedOptions
from affectgrid.reporting.training import print_scale
from affectgrid.synthetic.scale_corpus import ScaleConfig, ScaleCorpus, track_lengths, write_corpus
from support.planted import small_config

SMALL = ScaleConfig(scale=0.005, visual_dim=12, audio_dim=8)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> ScaleCorpus:
    root = tmp_path_factory.mktemp("scale")
    return write_corpus(root / "data", FeatureStore(root / "features"), SMALL)


@pytest.mark.parametrize(("split", "tracks", "frames"), [("train", 356, 1_684_000), ("validation", 76, 383_000)])
def test_at_full_size_the_lengths_are_those_of_aff_wild2(split: str, tracks: int, frames: int) -> None:
    lengths = track_lengths(split, ScaleConfig())
    assert (len(lengths), lengths.min(), lengths.max()) == (tracks, 73, 47_435)
    assert lengths.sum() == pytest.approx(frames, rel=0.002)
    assert np.median(lengths) < 0.7 * lengths.mean()  # a long tail


def test_a_small_one_shrinks_in_tracks_and_in_lengths() -> None:
    lengths = track_lengths("train", ScaleConfig(scale=0.01))
    assert len(lengths) == 36
    assert lengths.sum() == pytest.approx(16_840, rel=0.02)


def test_occupancy_is_uneven_and_labels_are_smooth(tmp_path: Path) -> None:
    config = ScaleConfig(scale=0.02, visual_dim=1, audio_dim=1)
    corpus = write_corpus(tmp_path / "data", FeatureStore(tmp_path / "features"), config)
    labels = [read_annotation(track.annotation) for track in corpus.catalog.tracks if track.annotation]
    va = np.concatenate([label.va[label.valid] for label in labels])
    column, row = ((va[:, axis] > -1 / 3).astype(int) + (va[:, axis] > 1 / 3) for axis in (0, 1))
    share = np.histogram2d(row, column, bins=[[0, 1, 2, 3]] * 2)[0] / len(va)
    assert share[1, 1] == pytest.approx(0.5, abs=0.1)  # the centre
    assert 0 < share[0].sum() < 0.06  # low arousal
    steps = np.abs(np.diff(labels[0].va[labels[0].valid], axis=0)).max(1)
    assert np.median(steps) < 0.02
    invalid = np.mean(np.concatenate([~label.valid for label in labels]))
    assert 0 < invalid < 0.05


def test_equal_values_make_equal_bytes_and_what_is_there_stays(corpus: ScaleCorpus, tmp_path: Path) -> None:
    heard: list[int] = []
    again = write_corpus(tmp_path / "data", FeatureStore(tmp_path / "features"), SMALL, heard.append)
    assert sum(heard) == SMALL.num_frames
    assert again.catalog.digest() == corpus.catalog.digest()
    name, print_ = corpus.catalog.tracks[0].id, SMALL.fingerprint("visual")
    paths = [Path(one.store.track_path("visual", print_, name)) for one in (again, corpus)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    before = paths[0].stat().st_mtime_ns
    write_corpus(tmp_path / "data", again.store, SMALL)
    assert paths[0].stat().st_mtime_ns == before


def test_another_seed_or_size_has_another_fingerprint() -> None:
    prints = {ScaleConfig(seed=seed, scale=scale).fingerprint("visual") for seed in (0, 1) for scale in (0.1, 1.0)}
    assert len(prints) == 4


def test_the_relation_can_be_learnt_and_the_report_says_that_it_is_synthetic(
    corpus: ScaleCorpus, tmp_path: Path
) -> None:
    config = small_config(optim={"epochs": 6, "batch_size": 4, "lr": 5e-3}, window={"length": 100, "stride": 80})
    epochs: list[float] = []
    report = run_scale(corpus, config, FeedOptions(), tmp_path, lambda metrics: epochs.append(metrics["epoch"]))
    assert epochs == [1, 2, 3, 4, 5, 6]
    assert report.best["val/p"] > 0.25
    assert (report.feed, sum(report.num_frames.values())) == ("resident", SMALL.num_frames)
    assert report.feature_bytes == SMALL.num_frames * (12 + 8) * 2
    assert report.peak_bytes >= report.base_bytes > report.feature_bytes
    console = Console(record=True, width=120, file=(tmp_path / "out.txt").open("w"))
    print_scale(report, tmp_path, console=console)
    text = console.export_text()
    assert "SYNTHETIC" in text
    assert "synthetic features" in text
    assert json.loads((tmp_path / "scale.json").read_text())["synthetic"] is True
