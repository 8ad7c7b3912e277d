"""Several predictions of the same frames compared, and scores within tracks and people."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from affectgrid.analysis.evaluation import compare_predictions
from affectgrid.data.catalog.people import read_people
from affectgrid.data.splits.resident import Split
from affectgrid.errors import CatalogError, ModelError
from affectgrid.metrics import ccc
from affectgrid.regions import RegionGrid
from affectgrid.training.inference.groups import score_groups
from affectgrid.training.inference.predict import Predictions, evaluate
from support.planted import planted_split


@pytest.fixture(scope="module")
def split() -> Split:
    """Twelve videos, the last of which shows two people."""
    made = planted_split("validation", [40] * 13)
    return dataclasses.replace(made, track_ids=(*made.track_ids[:11], "last_left", "last_right"))


def noisy(split: Split, sd: float, seed: int = 0) -> Predictions:
    draw = torch.Generator().manual_seed(seed)
    va = torch.as_tensor(split.va) + sd * torch.randn(split.va.shape, generator=draw)
    return Predictions(split.track_ids, torch.as_tensor(split.offsets), va.clamp(-1, 1))


def test_a_difference_is_that_of_the_scores_and_its_interval_is_paired(split: Split):
    first, near = noisy(split, 0.4), noisy(split, 0.4)
    near = dataclasses.replace(near, va=0.9 * near.va)
    far = noisy(split, 0.4, seed=1)
    found = compare_predictions([("first", first), ("near", near), ("far", far)], split)
    grid = RegionGrid.square(3)
    for one, own in zip(found, (first, near, far), strict=True):
        scores = evaluate(own, split, grid, num_resamples=0)
        assert (one.ccc_valence, one.p) == (pytest.approx(scores.ccc_valence), pytest.approx(scores.p))
    assert found[0].difference is None
    close, wide = found[1].difference, found[2].difference
    assert close is not None
    assert wide is not None
    assert close.estimate == pytest.approx(found[1].p - found[0].p)
    assert (close.num_comparisons, close.num_videos) == (2, 12)  # two people of a video are one unit
    # the errors of `near` are those of `first`: resampling the same videos for both takes them out
    assert close.high - close.low < 0.5 * (wide.high - wide.low)
    assert close.low_corrected < close.low < close.estimate < close.high < close.high_corrected


def test_a_model_against_itself_differs_by_nothing(split: Split):
    own = noisy(split, 0.3)
    difference = compare_predictions([("one", own), ("same", own)], split)[1].difference
    assert difference is not None
    assert (difference.low, difference.estimate, difference.high) == (0, 0, 0)


def test_predictions_of_other_frames_are_refused(split: Split):
    other = planted_split("validation", [40] * 12 + [39])
    other = dataclasses.replace(other, track_ids=split.track_ids)
    with pytest.raises(ModelError, match="CMP-ROWS b: other frames; expected the tracks and frames of a"):
        compare_predictions([("a", noisy(split, 0.1)), ("b", noisy(other, 0.1))], split)


def test_a_group_is_scored_on_its_own_frames_together(split: Split):
    own = noisy(split, 0.3)
    people = {split.track_ids[0]: "Ada", split.track_ids[3]: "Ada", split.track_ids[1]: "Ben"}
    found = score_groups(own, split, people)
    assert [(one.name, one.num_tracks) for one in found] == [("Ada", 2), ("Ben", 1)]
    rows = np.r_[0:40, 120:160]
    rows = rows[split.labelled[rows]]
    assert found[0].num_frames == len(rows)
    expected = [float(ccc(own.va[rows, axis], torch.as_tensor(split.va)[rows, axis])) for axis in (0, 1)]
    assert [found[0].ccc_valence, found[0].ccc_arousal] == pytest.approx(expected)
    rmse = math.sqrt(np.square(own.va[rows].numpy() - split.va[rows]).mean())
    assert found[0].rmse == pytest.approx(rmse, rel=1e-5)
    tracks = score_groups(own, split)
    assert [one.name for one in tracks] == list(split.track_ids)
    by_track = evaluate(own, split, RegionGrid.square(3), num_resamples=0).track_p
    assert {one.name: one.p for one in tracks} == pytest.approx(by_track)


def test_a_group_without_a_labelled_frame_has_no_score(split: Split):
    labelled = split.labelled.copy()
    labelled[:40] = False
    (first, *_) = score_groups(noisy(split, 0.1), dataclasses.replace(split, labelled=labelled))
    assert (first.num_frames, math.isnan(first.p), math.isnan(first.rmse)) == (0, True, True)


def test_people_are_read_from_a_list(tmp_path: Path):
    path = tmp_path / "people.csv"
    path.write_text("person,track\nAda, a\nBen,b\n")
    assert read_people(path, ["a", "c"]) == {"a": "Ada", "b": "Ben"}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("track;person\na;Ada\n", "the columns track;person"),
        ("track,person\na,Ada\na,Ben\n", ":3: 'a' twice"),
        ("track,person\na\n", ":2: an empty cell"),
        ("track,person\nz,Ada\n", "1 tracks, none of them of the split"),
        ("", "the columns none"),
        (None, "No such file"),
    ],
)
def test_a_list_of_people_that_cannot_be_used_is_refused(tmp_path: Path, content: str | None, found: str):
    path = tmp_path / "people.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CatalogError, match="CAT-PEOPLE") as error:
        read_people(path, ["a"])
    assert found in str(error.value)
