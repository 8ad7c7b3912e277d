"""Predictions of whole tracks, and their scores."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from affectgrid.errors import TrainingError
from affectgrid.metrics import bootstrap_ccc, ccc
from affectgrid.regions import RegionGrid
from affectgrid.training.batches import Resident
from affectgrid.training.build import build_model
from affectgrid.training.config import WindowConfig
from affectgrid.training.inference.predict import Predictions, evaluate, moments_by_video, predict_split, predict_tracks
from affectgrid.windows import cut
from support.planted import AUDIO_DIM, VISUAL_DIM, planted_prompts, planted_split, small_config


@pytest.fixture(scope="module")
def split():
    return planted_split("validation", [50, 9, 33])


@pytest.fixture(scope="module")
def model():
    model = build_model(small_config(), visual_dim=VISUAL_DIM, audio_dim=AUDIO_DIM, prompts=planted_prompts())
    with torch.no_grad():
        model.va_head.weight.mul_(20)  # predictions that fill the plane
    return model.eval()


def reference(model, split, window):
    """Track by track, window by window, frame by frame."""
    tracks = []
    for number in range(split.num_tracks):
        rows = split.track(number)
        n = rows.stop - rows.start
        total, weight = torch.zeros(n, 2, dtype=torch.float64), torch.zeros(n, 1, dtype=torch.float64)
        for start, stop in cut(n, window.length, window.stride):
            part = slice(rows.start + start, rows.start + stop)
            inputs = [
                torch.from_numpy(a[part])[None]
                for a in (split.visual, split.visual_present, split.audio, split.audio_present)
            ]
            va = model(*inputs, torch.ones(1, stop - start, dtype=torch.bool)).va[0]
            for k in range(stop - start):
                w = min(k + 1, stop - start - k)
                total[start + k] += w * va[k].double()
                weight[start + k] += w
        merged = total / weight
        h = window.smooth_half_width
        tracks.append(torch.stack([merged[max(0, t - h) : t + h + 1].mean(0) for t in range(n)]))
    return torch.cat(tracks).clamp(-1, 1).float()


@pytest.mark.parametrize("half_width", [0, 4])
def test_predictions_are_those_of_a_loop_over_tracks_windows_and_frames(model, split, half_width):
    window = WindowConfig(length=16, stride=10, smooth_half_width=half_width)
    with torch.no_grad():
        expected = reference(model, split, window)
    found = predict_split(model, split, window)
    torch.testing.assert_close(found.va, expected, atol=2e-5, rtol=0)
    assert found.track_ids == split.track_ids
    assert found.track(1) == slice(50, 59)


def test_labels_are_not_read(model, split):
    window = WindowConfig(length=16, stride=10)
    hidden = dataclasses.replace(split, va=np.full_like(split.va, np.nan), labelled=np.zeros_like(split.labelled))
    assert torch.equal(predict_split(model, hidden, window).va, predict_split(model, split, window).va)


def test_some_consecutive_tracks_are_predicted_as_among_all(model, split):
    window = WindowConfig(length=16, stride=10)
    resident, offsets = Resident(split), torch.as_tensor(split.offsets)
    whole = predict_tracks(model, resident, offsets, window)
    torch.testing.assert_close(predict_tracks(model, resident, offsets[1:], window), whole[50:], atol=1e-5, rtol=0)
    assert predict_tracks(model, resident, offsets[:1], window).shape == (0, 2)  # a worker may have no track


def test_a_prediction_that_is_no_number_names_its_track(model, split):
    spoilt = dataclasses.replace(split, visual=split.visual.copy())
    spoilt.visual[55] = np.inf
    with pytest.raises(TrainingError, match="PRED-NAN validation-1"):
        predict_split(model, spoilt, WindowConfig(length=16, stride=10))


def test_scores_pool_all_labelled_frames(split):
    draw = torch.Generator().manual_seed(0)
    va = (torch.as_tensor(split.va) + 0.3 * torch.randn(split.va.shape, generator=draw)).clamp(-1, 1)
    predictions = Predictions(split.track_ids, torch.as_tensor(split.offsets), va)
    grid = RegionGrid.square(3)
    scores = evaluate(predictions, split, grid, num_resamples=50)
    labelled = split.labelled
    valence, arousal = (float(ccc(va[labelled, d], torch.as_tensor(split.va)[labelled, d])) for d in (0, 1))
    assert scores.ccc_valence == pytest.approx(valence, abs=1e-6)
    assert scores.p == pytest.approx((valence + arousal) / 2, abs=1e-6)
    assert scores.num_frames == labelled.sum() == sum(region.support for region in scores.regions)
    assert scores.intervals.p.low <= scores.p <= scores.intervals.p.high
    assert [region.name for region in scores.regions] == list(grid.names)
    assert set(scores.track_p) == set(split.track_ids)
    assert scores.as_metrics("test")["test/p"] == scores.p


def test_predictions_of_another_split_are_refused(split):
    other = planted_split("other", [50, 9, 33])
    predictions = Predictions(other.track_ids, torch.as_tensor(other.offsets), torch.zeros(92, 2))
    with pytest.raises(ValueError, match="other tracks"):
        evaluate(predictions, split, RegionGrid.square(3))


def test_two_people_of_a_video_are_one_unit_of_resampling():
    split = dataclasses.replace(planted_split("validation", [50, 9, 33]), track_ids=("a_left", "b", "a_right"))
    predictions = Predictions(split.track_ids, torch.as_tensor(split.offsets), torch.as_tensor(split.va) * 0.9)
    both, alone = moments_by_video(predictions, split)
    assert float(both[0, 0]) == float(torch.as_tensor(split.labelled)[:50].sum() + split.labelled[59:].sum())
    assert float(alone[0, 0]) == float(split.labelled[50:59].sum())
    found = evaluate(predictions, split, RegionGrid.square(3)).intervals.p
    expected = bootstrap_ccc(torch.stack([both, alone])).p
    assert (found.low, found.high) == (expected.low, expected.high)
