"""Predictions of whole tracks, and their scores."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from affectgrid.errors import TrainingError
from affectgrid.metrics import bootstrap_ccc, ccc
from affectgrid.regions import RegionGrid
from affectgrid.training.batches import Resident
from affectgrid.training.build import build_model
from affectgrid.training.config import WindowConfig
from affectgrid.training.inference.predict import Predictions, evaluate, moments_by_video, predict_split, predict_tracks
from affectgrid.windows import cut
from support.planted import DIMS, planted_prompts, planted_split, small_config, with_streams


@pytest.fixture(scope="module")
def split():
    return planted_split("validation", [50, 9, 33])


@pytest.fixture(scope="module")
def model():
    model = build_model(small_config(), dims=DIMS, prompts=planted_prompts())
    with torch.no_grad():
        model.va_head.weight.mul_(20)  # predictions that fill the plane
    return model.eval()


def reference(model, split, window):
    """Track by track, window by window, frame by frame."""
    tracks = []
    for number in range(split.num_tracks):
        here = split.track(number)
        n = here.stop - here.start
        total, weight = torch.zeros(n, 2, dtype=torch.float64), torch.zeros(n, 1, dtype=torch.float64)
        for start, stop in cut(n, window.length, window.stride):
            part = slice(here.start + start, here.start + stop)
            streams = {
                name: (torch.from_numpy(rows.feature[part])[None], torch.from_numpy(rows.present[part])[None])
                for name, rows in split.streams.items()
            }
            va = model(streams, torch.ones(1, stop - start, dtype=torch.bool)).va[0]
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


def test_predictions_may_have_windows_of_their_own(model, split):
    longer = WindowConfig(length=16, stride=10, predict_length=30, predict_stride=15)
    expected = predict_split(model, split, WindowConfig(length=30, stride=15)).va
    assert torch.equal(predict_split(model, split, longer).va, expected)
    with pytest.raises(ValidationError, match="stride 40 is above length 30"):
        WindowConfig(length=16, stride=10, predict_length=30, predict_stride=40)


def causal_model(**fields):
    config = small_config(**{"model__temporal": "gru", **fields})
    model = build_model(config, dims=DIMS, prompts=planted_prompts())
    with torch.no_grad():
        model.va_head.weight.mul_(3)
    return model.eval()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"model__temporal": "causal-tcn"},
        {"model__temporal": "causal-transformer"},
        {"model__temporal": "causal-ssm"},
        {"model__fusion_depth": 2},
    ],
    ids=str,
)
def test_a_causal_models_prediction_does_not_hear_the_future(split, fields):
    """An event at a frame changes that frame and no earlier one, with smoothing and over the borders of windows."""
    model, window = causal_model(**fields), WindowConfig(length=16, stride=10, smooth_half_width=3)
    before = predict_split(model, split, window).va
    for event in (3, 20, 41):
        moved = with_streams(split)
        moved.streams["visual"].present[event] = moved.streams["audio"].present[event] = True
        moved.streams["visual"].feature[event] += 5
        moved.streams["audio"].feature[event] += 5
        reference = with_streams(moved, visual=split.streams["visual"].feature, audio=split.streams["audio"].feature)
        same = predict_split(model, reference, window).va
        after = predict_split(model, moved, window).va
        torch.testing.assert_close(after[:event], same[:event], rtol=0, atol=1e-6)
        assert float((after[event] - same[event]).abs().max()) > 1e-4
    assert before.shape == after.shape


def test_a_causal_model_carries_its_state_over_the_whole_track(split):
    """Without attention the state of the first frame reaches further than any window; attention itself does not."""
    window = WindowConfig(length=4, stride=4)
    moved = with_streams(split)
    moved.streams["visual"].feature[0] = 50
    moved.streams["visual"].present[0] = True
    known = with_streams(moved, visual=split.streams["visual"].feature)
    for fields, reach in (
        ({"model__fusion": "gate"}, 50),
        ({"model__temporal": "causal-tcn", "model__tcn_layers": 1}, 7),
    ):
        model = causal_model(**fields)
        with torch.no_grad():
            for gru in (part for part in model.modules() if isinstance(part, nn.GRU)):
                gru.bias_ih_l0[16:32] += 4  # the update gate keeps what it holds
        change = (predict_split(model, moved, window).va - predict_split(model, known, window).va).abs().amax(1)[:50]
        reached = int((change > 1e-6).nonzero().max()) + 1
        assert reached > 16 if reach == 50 else reached <= reach + 1
    whole = predict_split(causal_model(), split, WindowConfig(length=50, stride=50)).va
    torch.testing.assert_close(predict_split(causal_model(), split, WindowConfig(length=60, stride=7)).va, whole)


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
    spoilt = with_streams(split)
    spoilt.streams["visual"].feature[55] = np.nan
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
    told = dataclasses.replace(split, track_ids=("x", "y", "z"), recordings=("a", "b", "a"))
    assert torch.equal(moments_by_video(predictions, told), moments_by_video(predictions, split))
    both, alone = moments_by_video(predictions, split)
    assert float(both[0, 0]) == float(torch.as_tensor(split.labelled)[:50].sum() + split.labelled[59:].sum())
    assert float(alone[0, 0]) == float(split.labelled[50:59].sum())
    found = evaluate(predictions, split, RegionGrid.square(3)).intervals.p
    expected = bootstrap_ccc(torch.stack([both, alone])).p
    assert (found.low, found.high) == (expected.low, expected.high)
