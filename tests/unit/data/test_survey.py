"""What is in a data set, counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from affectgrid.data.annotations import Annotation
from affectgrid.data.catalog import Catalog, Track
from affectgrid.data.survey import TrackFacts, data_card, region_counts
from affectgrid.regions import RegionGrid


def facts(name, split, va, valid, *, frames=0, rate=0.0, crops=0):
    labels = Annotation(np.array(va, np.float32), np.array(valid))
    track = Track(name, split, None, Path("crops") if crops else None, None)
    return TrackFacts(track, labels, frames, rate, frames / rate if rate else 0.0, crops)


def test_regions_are_those_of_the_grid():
    va = np.random.default_rng(0).uniform(-1, 1, (500, 2)).astype(np.float32)
    grid = RegionGrid.square(3)

    nearest = np.bincount(grid.nearest(torch.as_tensor(va)).numpy(), minlength=9)
    assert region_counts(va).ravel().tolist() == nearest.tolist()


def test_a_card_counts_by_split():
    one = facts("a_left", "train", [[0.9, 0.9], [0, 0], [-1, 0]], [True, True, False], frames=4, rate=2.0, crops=3)
    other = facts("a_right", "train", [[0, -0.9]], [True], frames=6, rate=3.0)
    bare = TrackFacts(Track("b", "validation", None, None, None), None, 0, 0.0, 0.0, 0)
    tracks = tuple(found.track for found in (one, other, bare))
    card = data_card(Catalog("/data", tracks), [one, other, bare])
    train, validation = card["splits"]["train"], card["splits"]["validation"]
    assert train | {"regions_3x3": None, "hours": None} == {
        "tracks": 2, "raw_videos": 1, "hours": None, "frames": 10, "labels": 4, "masked": 1, "crops": 3,
        "rate_hz": [2.0, 3.0], "regions_3x3": None,
    }  # fmt: skip
    assert train["regions_3x3"] == [[0, 0, 1], [0, 1, 0], [0, 1, 0]]
    assert (validation["tracks"], validation["rate_hz"], validation["labels"]) == (1, [], 0)
    assert one.face_share == 0.75
    assert other.face_share is None
    assert card["fingerprint"] == Catalog("/data", tracks).digest()[:16]
