"""Causal features: an event that is moved by one frame changes no feature of an earlier one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from affectgrid.data.features.table import FeatureTable
from affectgrid.data.splits.interpolation import fill_between, interpolate
from affectgrid.encoders.audio import load_audio
from affectgrid.media.chunks import read_sound_chunk, read_visual_chunk

RATE_HZ, NUM_FRAMES, SOUND_HZ = 30, 60, 16_000
STORED_HZ = (16_000, 44_100, 48_000)  # all but the first are resampled, by a filter that looks ahead
EVENT = 38  # of two seconds; between hops, and between the frames of 5 Hz
HOP_S, WINDOW_S = 0.2, 1.0


def write_video(path: Path, event: int, sound_hz: int = SOUND_HZ) -> str:
    """From the frame `event` on the picture is white and there is a tone; before it a grey picture, and faint noise."""
    noise = np.random.default_rng(0).normal(0, 300, NUM_FRAMES * sound_hz // RATE_HZ)
    noise[event * sound_hz // RATE_HZ :] += 9000 * np.cos(np.arange(len(noise) - event * sound_hz // RATE_HZ) * 0.2)
    with av.open(str(path), "w") as container:
        picture = container.add_stream("ffv1", rate=RATE_HZ)
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=sound_hz, layout="mono")
        for number in range(NUM_FRAMES):
            shade = 255 if number >= event else 100 + number
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), shade, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE_HZ)
            container.mux(picture.encode(frame))
        samples = av.AudioFrame.from_ndarray(noise.astype(np.int16)[None], format="s16", layout="mono")
        samples.rate, samples.pts, samples.time_base = sound_hz, 0, Fraction(1, sound_hz)
        for stream in (sound, picture):
            container.mux(stream.encode(samples if stream is sound else None))
        container.mux(sound.encode(None))
    return str(path)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The event at frame EVENT, and one frame later."""
    folder = tmp_path_factory.mktemp("causal")
    return write_video(folder / "now.mkv", EVENT), write_video(folder / "later.mkv", EVENT + 1)


def sound_of_frames(video: str, *, causal: bool) -> tuple[np.ndarray, np.ndarray]:
    """The sound's features of every frame, as a split has them."""
    encoder = load_audio("tiny", window_s=WINDOW_S)
    chunk = read_sound_chunk(video, 0, 11, hop_s=HOP_S, window_s=WINDOW_S, sample_rate_hz=SOUND_HZ, causal=causal)
    begins = np.round((chunk.time_s - chunk.time_s[0]) * SOUND_HZ).astype(int)
    feature = encoder.encode_sound(chunk.sound, begins).numpy().astype(np.float16)
    hops = FeatureTable(chunk.frame_index, chunk.time_s, chunk.present, feature)
    return interpolate(hops, np.arange(NUM_FRAMES) / RATE_HZ, hold=causal)


def picture_of_frames(video: str, *, causal: bool) -> np.ndarray:
    """The brightness of every frame where 5 of 30 a second are encoded."""
    chunk = read_visual_chunk(video, None, 0, NUM_FRAMES, crop="frame", frame_rate_hz=5.0, causal=causal)
    feature = np.zeros((NUM_FRAMES, 1), np.float16)
    feature[chunk.present, 0] = [image.mean() for image in chunk.images]
    return fill_between(
        FeatureTable(chunk.frame_index, chunk.time_s, chunk.present, feature), 5.0, causal=causal
    ).feature


def first_difference(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.flatnonzero((one != other).any(1))[0])


@pytest.mark.parametrize("stored_hz", STORED_HZ)
def test_no_sound_is_heard_before_it_begins(stored_hz: int, tmp_path: Path):
    begun = EVENT // 6 * 6 + 6  # a frame with a hop, so that a window ends just where the sound begins
    for event in (EVENT, begun):
        pair = [write_video(tmp_path / f"{event + k}.mkv", event + k, stored_hz) for k in (0, 1)]
        (now, heard), (later, _) = (sound_of_frames(video, causal=True) for video in pair)
        assert heard.sum() > NUM_FRAMES - 0.45 * RATE_HZ  # from a quarter of a window, at the next hop, to the end
        assert event <= first_difference(now, later) <= event + HOP_S * RATE_HZ
        centred = [sound_of_frames(video, causal=False)[0] for video in pair]
        assert first_difference(*centred) < event - 0.3 * RATE_HZ  # what causal features are for


@pytest.mark.parametrize("stored_hz", STORED_HZ)
def test_no_sample_of_a_window_knows_what_comes_after_it(stored_hz: int, tmp_path: Path):
    """An encoder tapers a window's end, and so hides what a resampling filter has let in."""
    event = EVENT // 6 * 6 + 6
    pair = [write_video(tmp_path / f"{k}.mkv", event + k, stored_hz) for k in (0, 1)]
    how = {"hop_s": HOP_S, "window_s": WINDOW_S, "sample_rate_hz": SOUND_HZ, "causal": True}
    now, later = (read_sound_chunk(video, 0, event // 6 + 1, **how).sound for video in pair)
    assert len(now) == round((event / RATE_HZ + WINDOW_S) * SOUND_HZ)
    assert np.array_equal(now, later)


def test_no_picture_is_seen_before_it_is_shown(videos: tuple[str, str]):
    for event in (EVENT, 36):  # also an event at a frame that is encoded
        folder = Path(videos[0]).parent
        pair = [write_video(folder / f"{event + k}.mkv", event + k) for k in (0, 1)]
        now, later = (picture_of_frames(video, causal=True) for video in pair)
        assert now[event:].max() > 250
        different = np.flatnonzero((now != later).any(1))
        assert len(different) == 0 or different[0] >= event
    shown = picture_of_frames(videos[0], causal=False)[:, 0]
    assert float(shown[EVENT - 1]) > 138  # linear interpolation has begun to brighten: what causal features are for
