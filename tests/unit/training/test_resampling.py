"""Tracks at a common rate: which frames are read, and what each frame is given back."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from affectgrid.training.batches import Sampling, jittered
from affectgrid.training.build import build_model
from affectgrid.training.config import WindowConfig
from affectgrid.training.inference.predict import predict_split, resident_for
from affectgrid.training.labels import read_later
from affectgrid.training.loop import fit
from affectgrid.windows import WindowIndex, delay
from support.planted import DIMS, planted_prompts, planted_split, small_config


def at_rates(*rates_hz: float, frames: int = 12):
    split = planted_split("validation", [frames] * len(rates_hz))
    time_s = np.concatenate([np.arange(frames) / rate for rate in rates_hz])
    return dataclasses.replace(split, time_s=time_s)


@pytest.fixture
def model():
    return build_model(small_config(model__temporal="gru"), dims=DIMS, prompts=planted_prompts())


def test_the_rate_of_the_film_reads_every_frame_once():
    split = at_rates(30, 30)
    sampling = Sampling.at(split, 30, causal=False)
    assert sampling.rows.tolist() == list(range(24))
    assert sampling.offsets.tolist() == [0, 12, 24]
    assert sampling.position.tolist() == pytest.approx([*range(12), *range(12)])


@pytest.mark.parametrize("causal", [False, True])
def test_frames_are_repeated_or_left_out(causal):
    sampling = Sampling.at(at_rates(15, 60), 30, causal=causal)
    slow, fast = (sampling.rows[a:b].tolist() for a, b in zip(sampling.offsets, sampling.offsets[1:], strict=False))
    assert slow == [row // 2 for row in range(23)]
    assert fast == list(range(12, 24, 2))


@pytest.mark.parametrize(("causal", "expected"), [(True, [0, 0, 2, 2, 2]), (False, [0, 1, 2, 2, 3])])
def test_a_sample_is_the_frame_that_was_shown_or_the_nearest(causal, expected):
    split = dataclasses.replace(at_rates(1, frames=4), time_s=np.array([0, 0.15, 0.2, 0.45]))
    assert Sampling.at(split, 10, causal=causal).rows.tolist() == expected


def test_labels_that_go_on_after_the_video_have_times_too():
    split = at_rates(10, frames=6)
    split.time_s[[0, 4, 5]] = np.nan
    assert Sampling.at(split, 5, causal=True).rows.tolist() == [0, 2, 4]
    split.time_s[:] = np.nan
    assert Sampling.at(split, 5, causal=True).rows.tolist() == [0, 1, 2, 3, 4, 5]


def test_values_come_back_to_the_frames_they_belong_to():
    split = at_rates(30, 60)
    for causal in (False, True):
        sampling = Sampling.at(split, 30, causal=causal)
        values = sampling.rows[:, None].double()
        rows = torch.as_tensor(split.offsets)
        found = sampling.to_rows(values, split, rows)[:, 0].tolist()
        between = [12 + row // 2 * 2 for row in range(12)] if causal else [*range(12, 23), 22]
        assert found == pytest.approx([*range(12), *between])
        second = sampling.to_rows(values[12:], split, rows[1:])
        assert second[:, 0].tolist() == pytest.approx(between)  # of some of the tracks


def test_the_same_film_at_two_rates_is_predicted_alike(model):
    """Every second frame of a film, read at half the rate, is the film: the predictions are those of the whole."""
    whole = at_rates(60, frames=40)
    half = Sampling.at(whole, 30, causal=True).rows.numpy()
    picked = dataclasses.replace(
        whole,
        offsets=np.array([0, 20]),
        frame_index=np.arange(1, 21, dtype=np.int32),
        time_s=whole.time_s[half],
        streams={
            name: dataclasses.replace(own, feature=own.feature[half], present=own.present[half])
            for name, own in whole.streams.items()
        },
        va=whole.va[half],
        labelled=whole.labelled[half],
    )
    window = WindowConfig(length=8, stride=4, rate_hz=30, smooth_half_width=2, label_delay=1)
    torch.testing.assert_close(predict_split(model, whole, window).va[::2], predict_split(model, picked, window).va)
    other = predict_split(model, whole, window.model_copy(update={"rate_hz": None})).va[::2]
    assert float((other - predict_split(model, picked, window).va).abs().max()) > 1e-3


def test_a_causal_model_hears_no_future_at_another_rate(model):
    split = at_rates(25, frames=40)
    window = WindowConfig(length=8, stride=4, rate_hz=30)
    before = predict_split(model, split, window).va
    for event in (7, 20, 33):
        moved = at_rates(25, frames=40)
        moved.streams["visual"].feature[event:] += 3
        after = predict_split(model, moved, window).va
        assert torch.equal(after[:event], before[:event])
        assert not torch.equal(after[event:], before[event:])


def test_training_reads_the_samples_and_their_labels():
    split = at_rates(60, frames=40)
    resident = resident_for(small_config().model, WindowConfig(length=8, stride=8, rate_hz=30), split)
    batch = resident.gather(WindowIndex.over(resident.offsets.tolist(), 8, 8), torch.tensor([1]))
    rows = np.arange(16, 32, 2)
    assert torch.equal(batch.va[0], torch.as_tensor(split.va[rows]))
    assert torch.equal(batch.labelled[0], torch.as_tensor(split.labelled[rows]))
    assert torch.equal(batch.streams["visual"][0][0], torch.as_tensor(split.streams["visual"].feature[rows]))


def test_a_run_at_a_common_rate_with_random_offsets_learns_and_repeats():
    train, validation = planted_split("train", [90, 60, 80]), planted_split("validation", [60, 50], seed=1)
    config = small_config(optim__epochs=3, window__rate_hz=15, window__random_offsets=True, window__label_delay=1)
    first, second = (fit(config, train, validation, planted_prompts()) for _ in range(2))
    assert first.best == second.best
    fixed = small_config(optim__epochs=3, window__rate_hz=15, window__label_delay=1)
    assert fit(fixed, train, validation, planted_prompts()).history != first.history


def test_labels_are_read_later_within_each_track():
    va = torch.arange(12.0).reshape(6, 2)
    labelled = torch.tensor([1, 1, 1, 1, 0, 1], dtype=torch.bool)
    moved, known = read_later(va, labelled, torch.tensor([0, 3, 6]), (1, 2))
    assert known.tolist() == [True, False, False, False, False, False]
    assert moved[0].tolist() == [2.0, 5.0]  # valence of the next row, arousal of the one after
    same, all_known = read_later(va, labelled, torch.tensor([0, 3, 6]), (0, 0))
    assert torch.equal(same, va)
    assert torch.equal(all_known, labelled)


def test_a_lag_of_the_labels_is_learnt_and_given_back():
    """Labels that come 4 frames after what is seen: a model without a view of time finds them with the right delay."""
    fields = {"optim__epochs": 12, "model__temporal": "none", "model__fusion": "gate", "optim__lr": 0.01}

    def lagging(name, seed=0):
        split = planted_split(name, [80] * 6, seed=seed, noise=0.02)
        va = np.concatenate([delay(torch.as_tensor(split.va[a : a + 80]), 4).numpy() for a in split.offsets[:-1]])
        return dataclasses.replace(split, va=va)

    train, validation = lagging("train"), lagging("validation", seed=1)
    scores = {
        late: fit(small_config(**fields, window__label_delay=late), train, validation, planted_prompts()).best["val/p"]
        for late in (0, 4, 12)
    }
    assert scores[4] > scores[0] + 0.01
    assert scores[4] > scores[12] + 0.01


def test_windows_move_at_random_and_stay_in_their_tracks():
    offsets = torch.tensor([0, 50, 53, 120])
    index = WindowIndex.over(offsets.tolist(), 20, 10)
    seen = set()
    for seed in range(20):
        moved = jittered(index, offsets, 5, seed)
        assert torch.equal(moved.stop - moved.start, index.stop - index.start)
        assert torch.equal(moved.track, index.track)
        assert bool((moved.start >= offsets[moved.track]).all())
        assert bool((moved.stop <= offsets[moved.track + 1]).all())
        assert int((moved.start - index.start).abs().max()) <= 5
        seen.add(tuple(moved.start.tolist()))
    assert len(seen) == 20
    assert torch.equal(jittered(index, offsets, 5, 3).start, jittered(index, offsets, 5, 3).start)
