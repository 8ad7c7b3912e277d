"""Labels at times of their own, in every place where labels meet frames; and splits from the command line."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from affectgrid.data.catalog import read_catalog
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.table import FeatureTable
from affectgrid.data.splits.resident import load_split
from affectgrid.distributed.encode.decoding import _labelled
from affectgrid.distributed.encode.sandbox import Limits
from affectgrid.errors import AnnotationError
from support.formats import text
from support.jobs import job
from support.small_corpus import film

PRINTS = {"visual": "f0", "audio": "f0"}
HEADER = "track,time_s,valence,arousal"


def put(store: FeatureStore, stream: str, frames: list[int], times: list[float]) -> None:
    rows = (
        np.array(frames, np.int32),
        np.array(times, np.float64),
        np.ones(len(frames), bool),
        np.ones((len(frames), 2), np.float16),
    )
    store.write_track(stream, "f0", "a", FeatureTable(*rows), {})


def test_labels_join_features_at_the_times_that_the_store_has(tmp_path: Path) -> None:
    text(tmp_path / "data/labels.csv", [HEADER, "a,0,0,0", "a,1,1,-1"])
    (tmp_path / "data/a.mp4").touch()
    tracks, store = read_catalog(tmp_path / "data").tracks, FeatureStore(tmp_path / "store")
    put(store, "audio", [1, 2], [0, 1])
    put(store, "visual", [1, 2, 4, 5], [0.0, 0.25, 0.75, 1.25])
    split = load_split(store, tracks, fingerprints=PRINTS, name="train")
    np.testing.assert_allclose(split.va, [[0, 0], [0.25, -0.25], [0, 0], [0.75, -0.75], [0, 0]], atol=1e-6)
    assert split.labelled.tolist() == [True, True, False, True, False]  # one frame is not there, one is too late
    put(store, "visual", [1, 2], [np.nan, np.nan])  # crops alone
    with pytest.raises(AnnotationError, match="ANN-CLOCK"):
        load_split(store, tracks, fingerprints=PRINTS, name="train")


def test_frames_with_a_label_are_known_where_they_are_decoded(tmp_path: Path) -> None:
    video = film(tmp_path / "a.mp4", num_frames=50)
    text(tmp_path / "labels.csv", [HEADER, "a,0.4,0,0", "a,1.2,1,-1"])
    (track,) = read_catalog(tmp_path).tracks
    found = _labelled(pickle.dumps(track.labels), str(video), Limits(60, 1 << 30, 1))
    assert np.flatnonzero(found).tolist() == list(range(10, 31))  # 25 frames a second


def test_splits_are_drawn_and_taken_by_the_command_line(repository: Path, tmp_path: Path) -> None:
    data, out, drawn = tmp_path / "data", tmp_path / "out", tmp_path / "splits.csv"
    rows = []
    for seed, name in enumerate("abcd"):
        film(data / f"{name}.mp4", num_frames=25, seed=seed, sound_s=1.0)
        rows += [f"{name},0,{seed / 4},0.1", f"{name},0.96,{-seed / 4},0.2"]
    text(data / "labels.csv", [HEADER, *rows])
    done = job(
        repository, "validate", "--data", data, "--out", out, "--write-splits", drawn, "--split.validation", 0.25
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train 3 tracks, 75 labels; validation 1 tracks, 25 labels" in done.stdout
    splits = {row["track"]: row["split"] for row in csv.DictReader(drawn.open())}
    assert sorted(splits.values()) == ["train", "train", "train", "validation"]

    done = job(repository, "validate", "--data", data, "--out", out, "--splits", drawn, "--label-range", -10, 10)
    assert done.returncode == 0, done.stdout + done.stderr
    card = json.loads((out / "data_card.json").read_text())["splits"]
    assert {name: own["tracks"] for name, own in card.items()} == {"train": 3, "validation": 1}
    assert (out / "tracks/validation.txt").read_text().split() == [n for n in splits if splits[n] == "validation"]
    assert sum(own["regions_3x3"][1][1] for own in card.values()) == 4 * 25  # all are near the middle of such a scale
