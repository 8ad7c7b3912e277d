"""Splits as a worse camera or microphone would have given them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest

from affectgrid.data.splits.impaired import half_rate, impairments, noisy, without, without_face_in_turn
from affectgrid.data.splits.resident import Split, StreamRows
from affectgrid.training.inference.ensemble import Ensemble
from affectgrid.training.inference.package import ModelPackage
from affectgrid.training.inference.predict import predict_split
from affectgrid.training.loop import fit
from support.planted import planted_data, planted_split, small_config


@pytest.fixture(scope="module")
def split() -> Split:
    """Five and a half seconds, and two, at 30 frames a second."""
    return planted_split("validation", [165, 61])


def without_streams(split: Split) -> dict[str, object]:
    values = {field.name: getattr(split, field.name) for field in dataclasses.fields(split)}
    del values["streams"]
    return values


def unchanged(split: Split, other: Split, *names: str) -> bool:
    """Whether nothing but the streams that are not named may differ."""
    same = all(value is without_streams(other)[name] for name, value in without_streams(split).items())
    return same and all(split.streams[name] is other.streams[name] for name in names)


def test_a_stream_that_is_gone_is_absent_everywhere(split: Split):
    silent = without(split, "audio")
    assert unchanged(split, silent, "visual")
    assert not silent.streams["audio"].present.any()
    assert silent.streams["audio"].dim == split.streams["audio"].dim


def test_a_face_is_gone_and_there_in_turn(split: Split):
    found = without_face_in_turn(split)
    assert unchanged(split, found, "audio")
    second = np.concatenate([np.arange(165), np.arange(61)]) // 30
    kept = split.streams["visual"].present & ((second // 2) % 2 == 1)
    assert np.array_equal(found.streams["visual"].present, kept)
    assert np.array_equal(found.streams["visual"].feature[kept], split.streams["visual"].feature[kept])
    assert not found.streams["visual"].feature[~kept].any()
    timeless = dataclasses.replace(split, time_s=np.full(split.num_frames, np.nan))
    assert np.array_equal(without_face_in_turn(timeless).streams["visual"].present, split.streams["visual"].present)


def test_at_half_the_rate_every_second_frame_is_that_before_it(split: Split):
    found, own = half_rate(split).streams["visual"], split.streams["visual"]
    for begin, length in ((0, 165), (165, 61)):  # the second track begins with a frame of its own
        for place in range(length):
            row, shown = begin + place, begin + place - place % 2
            assert np.array_equal(found.feature[row], own.feature[shown])
            assert found.present[row] == own.present[shown]
    assert unchanged(split, half_rate(split), "audio")


def test_noise_is_as_large_as_asked_and_the_same_every_time(split: Split):
    long = planted_split("validation", [4000, 2000])
    found = noisy(long, 0.5)
    for name, own in long.streams.items():
        noise = (found.streams[name].feature.astype(float) - own.feature)[own.present]
        spread = own.feature[own.present].astype(float).std(0)
        assert np.allclose(noise.std(0) / spread, 0.5, atol=0.03)
        assert np.abs(noise.mean(0) / spread).max() < 0.03
        assert np.array_equal(found.streams[name].feature[~own.present], own.feature[~own.present])
        assert np.array_equal(found.streams[name].feature, noisy(long, 0.5).streams[name].feature)
        assert not np.array_equal(found.streams[name].feature, noisy(long, 0.5, seed=1).streams[name].feature)
    assert not np.allclose(*(found.streams["visual"].feature[rows] for rows in (slice(0, 2000), slice(4000, 6000))))


def test_every_stream_that_a_model_reads_is_taken_away_once(split: Split):
    names = list(impairments(["visual", "audio", "landmarks"]))
    assert [name for name in names if name.endswith("gone")] == ["face gone", "sound gone", "landmarks gone"]
    assert "picture at half the rate" in names
    assert not any("face" in name or "picture" in name for name in impairments(["audio"]))
    three = dataclasses.replace(split, streams={**split.streams, "landmarks": StreamRows.absent(split.num_frames, 3)})
    for impair in impairments(three.streams).values():
        assert impair(three).streams.keys() == three.streams.keys()


def test_what_a_model_loses_is_what_the_stream_showed():
    """Of the planted corpus sound shows arousal alone, and faces valence."""
    from affectgrid.distributed.evaluate import impaired_scores  # Ray takes seconds
    from affectgrid.storage import Storage

    data, config = planted_data(), small_config(optim__epochs=12)
    prompts = data.prompts[config.prompt.file]
    model = fit(config, data.train, data.validation, prompts).model
    package = ModelPackage(model.eval(), config, prompts.grid, data.train.encoders, {})
    ensemble = Ensemble((Storage("/nowhere/model"),), (package,), ((1.0, 1.0),))

    def split_for(_: Mapping[str, str]) -> Split:
        return data.validation

    clean = predict_split(model, data.validation, config.window)
    found = {one.name: one for one in impaired_scores(ensemble, split_for, clean)}
    assert list(found) == ["as it is", *impairments(["visual", "audio"])]
    as_it_is, silent, faceless = (found[name] for name in ("as it is", "sound gone", "face gone"))
    assert min(as_it_is.ccc_valence, as_it_is.ccc_arousal) > 0.6
    assert silent.ccc_arousal < 0.5 * as_it_is.ccc_arousal
    assert silent.ccc_valence > 0.8 * as_it_is.ccc_valence
    assert faceless.ccc_arousal > 0.8 * as_it_is.ccc_arousal
    assert faceless.ccc_valence < 0.8 * as_it_is.ccc_valence  # the rest is guessed from arousal
    assert faceless.difference is not None
    assert faceless.difference.num_comparisons == len(found) - 1
    assert faceless.difference.estimate == pytest.approx(faceless.p - as_it_is.p)
    levels = [found[f"noise of {sds} sd on every feature"].p for sds in ("0.5", "1")]
    assert as_it_is.p > levels[0] > levels[1]
