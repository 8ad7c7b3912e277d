"""Frames and sound as they come: the same numbers as from files, and what is too late is dropped and counted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from affectgrid.data.catalog import read_aff_wild2
from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.data.splits.resident import StreamRows
from affectgrid.encoders.audio import load_audio
from affectgrid.encoders.live import LiveSound
from affectgrid.encoders.visual import load_visual
from affectgrid.errors import MediaError, ModelError
from affectgrid.media.audio import read_audio
from affectgrid.media.capture import Capture
from affectgrid.media.chunks import read_sound_chunk
from affectgrid.media.video import probe_video
from affectgrid.reporting.look.live import LivePrediction, follow, tell
from affectgrid.training.build import build_model
from affectgrid.training.inference.live import LiveModel
from affectgrid.training.inference.package import ModelPackage
from affectgrid.training.inference.predict import predict_split
from support.planted import DIMS, planted_prompts, planted_split, small_config

RATE_HZ, HOP_S = 25, 0.2


def package(*, dims: dict[str, int] = DIMS, **settings: object) -> ModelPackage:
    config = small_config(seed=3, **({"model__temporal": "gru"} | settings))
    prompts = planted_prompts()
    encoders = {
        "visual_stream": VisualStream(crop="frame").model_dump_json(),
        "audio_stream": AudioStream().model_dump_json(),
    }
    return ModelPackage(build_model(config, dims=dims, prompts=prompts).eval(), config, prompts.grid, encoders, {})


@pytest.mark.parametrize("temporal", ["gru", "causal-tcn"])
@pytest.mark.parametrize("smoothing", [0, 3])
def test_frames_as_they_come_get_the_predictions_of_the_whole_track(temporal: str, smoothing: int) -> None:
    model = package(model__temporal=temporal, window__smooth_half_width=smoothing)
    split, rng = planted_split("validation", [60]), np.random.default_rng(1)
    hop_s = np.arange(0, 60 / RATE_HZ, HOP_S)
    hops = rng.standard_normal((len(hop_s), DIMS["audio"])).astype(np.float16)
    heard = rng.random(len(hop_s)) > 0.2
    hops[~heard] = 0
    time_s = np.arange(60) / RATE_HZ
    live, said, hop = LiveModel(model), [], 0
    for frames in np.split(np.arange(60), [1, 2, 7, 20, 21, 40]):
        until = int(np.searchsorted(hop_s, time_s[frames[-1]], side="right"))
        live.add_hops(hop_s[hop:until], heard[hop:until], hops[hop:until])
        hop = until
        visual = split.streams["visual"]
        live.add_frames(time_s[frames], visual.present[frames], visual.feature[frames])
        said.append(live.predict(len(frames)))
    feature, present = np.zeros((60, DIMS["audio"]), np.float16), np.zeros(60, np.bool_)
    last = np.searchsorted(hop_s, time_s + 1e-9, side="right") - 1
    present[:] = heard[last]
    feature[present] = hops[last[present]]
    whole = dataclasses.replace(split, time_s=time_s, streams={**split.streams, "audio": StreamRows(feature, present)})
    expected = predict_split(model.model, whole, model.config.window).va.numpy()
    np.testing.assert_allclose(np.concatenate(said), expected, atol=1e-5)


def test_what_is_older_than_the_context_is_forgotten() -> None:
    live = LiveModel(package(), context_s=1.0)
    for number in range(200):
        live.add_frames(np.array([number / RATE_HZ]), np.array([True]), np.ones((1, DIMS["visual"])))
        live.predict(1)
    assert len(live._frames.time_s) <= RATE_HZ + 2


def test_a_model_that_looks_ahead_is_refused() -> None:
    with pytest.raises(ModelError, match="LIVE-CAUSAL"):
        LiveModel(package(model__temporal="bigru"))


@pytest.fixture(scope="module")
def clip(rendered: Path) -> Path:
    """Three seconds with sound."""
    video = read_aff_wild2(rendered, labels="optional").split("train")[0].video
    assert video is not None
    assert probe_video(video).audio
    return video


def test_sound_in_pieces_has_the_features_of_an_encode_run(clip: Path) -> None:
    encoder = load_audio("tiny", window_s=1.0)
    info = probe_video(clip)
    assert info.audio is not None
    stop_s = float(info.frame_times_s[-1])
    sound, present = read_audio(clip, 0.0, stop_s)
    assert present.all()
    live = LiveSound(encoder, hop_s=HOP_S, source_rate_hz=info.audio.sample_rate_hz)
    pieces = [(first / 16_000, sound[first : first + 1024]) for first in range(0, len(sound), 1024)]
    given = [live.encode(pieces[first : first + 7]) for first in range(0, len(pieces), 7)]
    times, heard, features = (np.concatenate(parts) for parts in zip(*given, strict=True))
    chunk = read_sound_chunk(str(clip), 0, len(times), hop_s=HOP_S, window_s=1.0, sample_rate_hz=16_000, causal=True)
    np.testing.assert_array_equal(times, chunk.time_s)
    np.testing.assert_array_equal(heard, chunk.present)
    begins = np.round(chunk.time_s * 16_000).astype(int)[chunk.present]
    expected = encoder.encode_sound(chunk.sound, begins).numpy()
    np.testing.assert_allclose(features[heard], expected, atol=1e-3)
    assert stop_s - HOP_S - 0.01 <= times[-1] <= stop_s


def test_lost_sound_is_silence_that_does_not_count() -> None:
    live = LiveSound(load_audio("tiny", window_s=1.0), hop_s=HOP_S)
    second = np.full(16_000, 0.1, np.float32)
    _, heard, _ = live.encode([(0.0, second), (3.0, second)])
    assert heard.tolist() == [k * HOP_S >= 0.25 and not 1.75 < k * HOP_S < 3.25 for k in range(len(heard))]


def test_a_file_is_followed_to_its_end(clip: Path, tmp_path: Path) -> None:
    dims = {"visual": load_visual("tiny", trusted=True).dim, "audio": load_audio("tiny").dim}
    model = package(dims=dims)
    num_frames = probe_video(clip).num_frames
    got = list(follow(str(clip), model, seconds=None, detect_every=3, most_waiting=num_frames))
    frames = [one for one in got if isinstance(one, LivePrediction)]
    assert got[-1] == 0
    assert len(frames) == num_frames
    assert all(abs(one.valence) <= 1 and one.latency_s > 0 for one in frames)
    lines = list(tell(iter(got), tmp_path / "live.csv"))
    assert f"{num_frames} frames" in lines[-1]
    assert len((tmp_path / "live.csv").read_text().splitlines()) == num_frames + 1


def test_frames_that_wait_too_long_are_dropped_and_counted(clip: Path) -> None:
    num_frames = probe_video(clip).num_frames
    with Capture(str(clip), most_waiting=2) as capture:
        capture._thread.join()  # nobody takes any
        frames, _ = capture.take()
        assert capture.take()[0] == []
    assert len(frames) == 2
    assert capture.num_dropped == num_frames - 2


@pytest.mark.parametrize("source", ["77", "nothing.mp4", "rtsp://127.0.0.1:9/none"])
def test_a_source_that_does_not_open_is_named(source: str) -> None:
    with pytest.raises(MediaError) as caught:
        Capture(source)
    assert caught.value.problems[0].code in ("MED-SOURCE", "MED-MISSING")
    assert source in caught.value.problems[0].where
