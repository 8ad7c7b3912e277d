"""Faces and voices follow valence and arousal, each in its own way."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from affectgrid.synthetic.rendered.face import SUPERSAMPLING, FaceArtist, Motion, draw_person, move
from affectgrid.synthetic.rendered.paths import affect_path, slow_signal
from affectgrid.synthetic.rendered.voice import SAMPLE_RATE_HZ, control_times, draw_voice, speak

DURATION_S = 4.0


# Paths


@given(seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_a_signal_has_unit_variance_and_no_mean_over_long_times(seed: int):
    values = slow_signal(np.random.default_rng(seed))(np.linspace(0, 5000, 100_000))
    assert abs(values.mean()) < 0.02
    assert values.var() == pytest.approx(1, abs=0.03)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_a_path_stays_inside_and_is_smooth(seed: int):
    path = affect_path(np.random.default_rng(seed))
    times_s = np.linspace(0, 60, 1801)
    va = path(times_s)
    assert va.shape == (1801, 2)
    assert np.abs(va).max() < 0.95
    assert np.abs(np.diff(va, axis=0)).max() < 0.13  # a thirtieth of a second at the fastest
    np.testing.assert_array_equal(path(times_s[::3]), va[::3])  # a function of time, whatever the rate


# Voices


def voiced(valence: float, arousal: float, seed: int = 0) -> np.ndarray:
    heard = np.tile((valence, arousal), (len(control_times(DURATION_S)), 1))
    return speak(draw_voice(np.random.default_rng(seed)), heard, DURATION_S).sound


def level_db(sound: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(sound**2)))


def centroid_hz(sound: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(sound)) ** 2
    return float((np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE_HZ) * power).sum() / power.sum())


def pitch_hz(sound: np.ndarray) -> float:
    """The median shortest lag at which loud frames of 50 ms nearly repeat themselves, between 60 and 500 Hz."""
    frames = sound[: len(sound) // 800 * 800].reshape(-1, 800)
    frames = frames[np.argsort((frames**2).sum(axis=1))[-20:]]
    lags = np.arange(SAMPLE_RATE_HZ // 500, SAMPLE_RATE_HZ // 60)
    scores = np.array([[(f[:-lag] * f[lag:]).mean() / (f**2).mean() for lag in lags] for f in frames])
    nearly = scores >= 0.85 * scores.max(axis=1, keepdims=True)  # multiples of the period repeat as well
    starts = zip(nearly.argmax(axis=1), scores, strict=True)
    peaks = np.array([first + row[first : first + 15].argmax() for first, row in starts])
    return float(np.median(SAMPLE_RATE_HZ / lags[np.minimum(peaks, len(lags) - 1)]))


@pytest.mark.parametrize("seed", range(4))
def test_arousal_is_heard_as_loudness_pitch_and_brightness(seed: int):
    calm, excited = voiced(0, -0.8, seed), voiced(0, 0.8, seed)
    assert 8 < level_db(excited) - level_db(calm) < 17  # 8 dB a unit, 1.6 units, phrases that fall otherwise
    assert centroid_hz(excited) > centroid_hz(calm)
    assert pitch_hz(excited) > 1.3 * pitch_hz(calm)  # 2^(0.45 * 1.6) = 1.65, and estimates slip


@pytest.mark.parametrize("seed", range(4))
def test_valence_hardly_changes_the_level(seed: int):
    assert abs(level_db(voiced(0.8, 0, seed)) - level_db(voiced(-0.8, 0, seed))) < 1.5


def test_speech_depends_on_nothing_but_its_arguments_and_stays_in_range():
    first, second = voiced(0.9, 0.9), voiced(0.9, 0.9)
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.float32
    assert len(first) == DURATION_S * SAMPLE_RATE_HZ
    assert 0.01 < np.abs(first).max() <= 1


def test_the_mouth_is_open_when_there_is_sound():
    heard = np.zeros((len(control_times(DURATION_S)), 2))
    speech = speak(draw_voice(np.random.default_rng(2)), heard, DURATION_S)
    times_s = np.arange(0, DURATION_S, 0.02)
    loudness = np.sqrt((speech.sound.reshape(len(times_s), -1) ** 2).mean(axis=1))
    assert np.corrcoef(loudness, speech.opening_at(times_s + 0.01))[0, 1] > 0.8


# Faces


def still(valence: float, arousal: float) -> Motion:
    """One second at 10 Hz of a face that feels the same all the time, without sway, mouth closed."""
    person = draw_person(np.random.default_rng(3))
    times_s = np.arange(10) / 10
    return move(person, np.tile((valence, arousal), (10, 1)), np.zeros(10), times_s)


def picture(motion: Motion) -> np.ndarray:
    canvas = Image.new("RGB", (200 * SUPERSAMPLING, 200 * SUPERSAMPLING), (128, 128, 128))
    unmoved = dataclasses.replace(
        motion, offset=0 * motion.offset, roll=0 * motion.roll, size=motion.size / motion.size
    )
    FaceArtist(draw_person(np.random.default_rng(3))).draw(canvas, unmoved, 0, (100, 100), 80)
    return np.asarray(canvas.reduce(SUPERSAMPLING)).astype(int)


def test_valence_bends_the_mouth_and_arousal_opens_the_eyes():
    sad, happy = still(-0.8, 0), still(0.8, 0)
    assert (happy.curve - sad.curve > 1).all()
    assert (happy.tilt < sad.tilt).all()
    sleepy, awake = still(0, -0.8), still(0, 0.8)
    assert (awake.eye > sleepy.eye).all()
    assert (awake.brow > sleepy.brow).all()
    np.testing.assert_array_equal(awake.curve, sleepy.curve)


def test_valence_shows_in_the_whole_face_most_of_all_below_and_arousal_above():
    """Rows 100 to 180 hold nose, cheeks and mouth, 20 to 100 eyes and brows."""
    valence = np.abs(picture(still(0.8, 0)) - picture(still(-0.8, 0)))
    arousal = np.abs(picture(still(0, 0.8)) - picture(still(0, -0.8)))
    assert valence[100:180].sum() > valence[20:100].sum()
    assert arousal[20:100].sum() > 3 * arousal[100:180].sum()


def test_a_talking_mouth_and_a_blink_move_the_face_whatever_it_feels():
    person = draw_person(np.random.default_rng(3))
    times_s = np.arange(300) / 30
    talking = move(person, np.zeros((300, 2)), np.ones(300), times_s)
    silent = move(person, np.zeros((300, 2)), np.zeros(300), times_s)
    assert (talking.opening > silent.opening + 0.1).all()
    assert talking.eye.min() < 0.3 < talking.eye.max(), "it blinks within ten seconds"
