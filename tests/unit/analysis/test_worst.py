"""The frames of the worst track that are furthest from their annotation, with their pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from affectgrid.analysis.evaluation import worst_frames
from affectgrid.data.catalog import Track
from affectgrid.data.splits.resident import Split
from affectgrid.reporting.scores import draw_worst
from affectgrid.storage import Staged, Storage
from affectgrid.training.inference.predict import Predictions
from support.planted import planted_split
from support.small_corpus import crops

RATE_HZ, LENGTH = 30, 90
BAD = {20: 1.5, 22: 1.4, 70: 1.2, 45: 0.9}  # frame of the second track -> what is added to its valence


@pytest.fixture(scope="module")
def split() -> Split:
    """Two tracks of three seconds; every frame of the second has a label but one, of which the model is furthest."""
    made = planted_split("validation", [LENGTH, LENGTH])
    labelled = np.ones(2 * LENGTH, np.bool_)
    labelled[LENGTH + 80] = False
    return dataclasses.replace(made, track_ids=("good", "bad"), labelled=labelled)


@pytest.fixture(scope="module")
def predictions(split: Split) -> Predictions:
    va = torch.as_tensor(split.va).clone()
    for place, wrong in {**BAD, 80: 1.9}.items():
        va[LENGTH + place, 0] += wrong
    return Predictions(split.track_ids, torch.as_tensor(split.offsets), va)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frame n is grey of 2 n + 20."""
    path = tmp_path_factory.mktemp("video") / "bad.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=RATE_HZ)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(LENGTH):
            grey = np.full((48, 64, 3), 2 * number + 20, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def test_the_worst_frames_are_apart_and_shown_as_they_are(
    split: Split, predictions: Predictions, video: Path, tmp_path: Path
):
    found = worst_frames(predictions, split, {"bad": Track("bad", "validation", video, None, None)})
    assert [one.frame_index for one in found] == [21, 71]  # whatever else is off lies less than 30 frames away
    for one in found:
        assert one.picture.shape == (48, 64, 3)
        assert float(one.picture.mean()) == pytest.approx(2 * (one.frame_index - 1) + 20, abs=4)
        row = LENGTH + one.frame_index - 1
        assert one.time_s == split.time_s[row]
        assert one.true == pytest.approx(tuple(split.va[row]))
    assert found[0].predicted[0] - found[0].true[0] == pytest.approx(1.5, abs=1e-6)
    (picture,) = draw_worst(tmp_path, found)
    assert "bad" in picture.alt
    assert picture.path.stat().st_size > 5_000
    assert draw_worst(tmp_path, ()) == []


def test_without_a_video_the_crops_are_shown(split: Split, predictions: Predictions, tmp_path: Path):
    crops(tmp_path / "bad", range(1, 60))
    found = worst_frames(predictions, split, {"bad": Track("bad", "validation", None, tmp_path / "bad", None)})
    assert [one.frame_index for one in found] == [21]  # the others have no crop
    assert found[0].picture.shape == (16, 16, 3)


def missing(folder: Path) -> Path:
    return folder / "none.mp4"


def broken(folder: Path) -> Path:
    (folder / "bad.mp4").write_bytes(b"this is no video")
    return folder / "bad.mp4"


def remote(folder: Path) -> Path:
    return Staged.of(Storage(folder), "videos/bad.mp4", "file", []).path


@pytest.mark.parametrize("make", [missing, broken, remote], ids=lambda make: make.__name__)
def test_where_the_pictures_are_not_at_hand_there_are_none(
    split: Split, predictions: Predictions, tmp_path: Path, make: Callable[[Path], Path]
):
    track = Track("bad", "validation", make(tmp_path), None, None)
    assert worst_frames(predictions, split, {"bad": track}) == ()


def test_of_a_track_that_is_unknown_or_has_no_label_there_are_none(split: Split, predictions: Predictions):
    assert worst_frames(predictions, split, {}) == ()
    unlabelled = dataclasses.replace(split, labelled=np.zeros_like(split.labelled))
    assert worst_frames(predictions, unlabelled, {}) == ()
