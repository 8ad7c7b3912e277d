"""Sound by time range: against a pure tone worked out by formula, and against the slice of the whole."""

from __future__ import annotations

import av
import numpy as np
import pytest

from affectgrid.errors import MediaError
from affectgrid.media.audio import read_audio

TONE_HZ = 440.0


def tone(time_s: np.ndarray) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * TONE_HZ * time_s)).astype(np.float32)


def write_sound(
    path, *, codec="pcm_s16le", rate=44100, seconds=4.0, layout="mono", gains=(1.0,), start_s=0.0, video_s=None
):
    fmt = {"pcm_s16le": "s16", "aac": "fltp", "libopus": "flt", "libmp3lame": "fltp"}[codec]
    with av.open(str(path), "w") as out:
        picture = None
        if video_s is not None:
            picture = out.add_stream("mpeg4", rate=25)
            picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        stream = out.add_stream(codec, rate=rate, layout=layout)
        if picture:
            for _ in range(round(video_s * 25)):
                out.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
            out.mux(picture.encode(None))
        wave = tone(np.arange(round(seconds * rate)) / rate)
        planes = np.stack([gain * wave for gain in gains])
        if fmt == "s16":
            data, packed = np.round(planes * 32767).astype(np.int16).T.reshape(1, -1), "s16"
        elif fmt == "flt":
            data, packed = np.ascontiguousarray(planes.T).reshape(1, -1).astype(np.float32), "flt"
        else:
            data, packed = planes.astype(np.float32), "fltp"
        block = av.AudioFrame.from_ndarray(data, format=packed, layout=layout)
        block.sample_rate, block.pts = rate, round(start_s * rate)
        out.mux(stream.encode(block))
        out.mux(stream.encode(None))
    return path


def snr_db(signal: np.ndarray, reference: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(reference**2) / (np.sum((signal - reference) ** 2) + 1e-20)))


@pytest.mark.parametrize("rate", [44100, 48000, 16000, 22050, 11025])
def test_resampling_gives_the_tone_at_its_true_times(tmp_path, rate):
    path = write_sound(tmp_path / "a.wav", rate=rate)
    sound, present = read_audio(path, 0, 4)
    assert sound.dtype == np.float32
    assert len(sound) == len(present) == 64000
    assert present.all()
    inner = slice(800, -800)
    assert snr_db(sound[inner], tone(np.arange(64000) / 16000)[inner]) > 50


@pytest.mark.parametrize("rate", [44100, 48000, 16000])
@pytest.mark.parametrize(("start_s", "stop_s"), [(0.0, 0.5), (0.1234, 1.0), (1.9, 2.0), (2.71828, 3.9), (3.5, 4.0)])
def test_a_range_equals_the_slice_of_the_whole(tmp_path, rate, start_s, stop_s):
    path = write_sound(tmp_path / "a.wav", rate=rate)
    whole, _ = read_audio(path, 0, 4)
    part, present = read_audio(path, start_s, stop_s)
    assert present.all()
    np.testing.assert_allclose(part, whole[round(start_s * 16000) : round(stop_s * 16000)], atol=1e-6)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.mp3"])
def test_lossy_ranges_equal_the_slice_of_the_whole(tmp_path, name):
    codec = {"a.webm": "libopus", "a.mp3": "libmp3lame"}.get(name, "aac")
    path = write_sound(tmp_path / name, codec=codec, rate=48000)
    whole, _ = read_audio(path, 0, 4)
    for start_s, stop_s in [(1.5, 2.0), (2.345, 3.3)]:
        part, present = read_audio(path, start_s, stop_s)
        assert present.all()
        assert snr_db(part, whole[round(start_s * 16000) : round(stop_s * 16000)]) > 40
    assert snr_db(whole[8000:-8000], tone(np.arange(64000) / 16000)[8000:-8000]) > 20


def test_channels_are_mixed_down(tmp_path):
    # the mean of both: (1 + 0.5) / 2
    path = write_sound(tmp_path / "a.wav", layout="stereo", gains=(1.0, 0.5))
    sound, _ = read_audio(path, 1, 2)
    assert snr_db(sound, 0.75 * tone(1 + np.arange(16000) / 16000)) > 50
    # 5.1 (FL FR FC LFE BL BR), tone in the centre: it stays, at some gain
    path = write_sound(tmp_path / "b.wav", layout="5.1", gains=(0, 0, 1.0, 0, 0, 0))
    sound, _ = read_audio(path, 1, 2)
    reference = tone(1 + np.arange(16000) / 16000)
    gain = float(sound @ reference / (reference @ reference))
    assert 0.2 < gain <= 1
    assert snr_db(sound, gain * reference) > 50


def test_before_and_after_the_sound_there_is_silence_that_is_not_present(tmp_path):
    path = write_sound(tmp_path / "a.wav", seconds=1.0)
    sound, present = read_audio(path, -0.5, 2.0)
    assert len(sound) == 40000
    expected = np.zeros(40000, bool)
    expected[8000:24000] = True
    np.testing.assert_array_equal(present, expected)
    assert not sound[~present].any()
    assert snr_db(sound[8800:23200], tone(np.arange(800, 15200) / 16000)) > 50
    late, there = read_audio(path, 60, 61)
    assert len(late) == 16000
    assert not late.any()
    assert not there.any()


def test_sound_is_on_the_videos_clock(tmp_path):
    path = write_sound(tmp_path / "a.mkv", rate=16000, seconds=1.0, start_s=0.5, video_s=2.0)
    sound, present = read_audio(path, 0, 2)
    edges = np.flatnonzero(np.diff(present.astype(int)))
    np.testing.assert_allclose(edges / 16000, [0.5, 1.5], atol=0.002)
    assert snr_db(sound[8800:23200], tone(np.arange(800, 15200) / 16000)) > 30


def test_a_video_without_sound(tmp_path):
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode(None))
    sound, present = read_audio(path, 0, 1)
    assert len(sound) == 16000
    assert not sound.any()
    assert not present.any()


def test_empty_and_reversed_ranges(tmp_path):
    path = write_sound(tmp_path / "a.wav", seconds=1.0)
    assert len(read_audio(path, 0.5, 0.5)[0]) == 0
    with pytest.raises(ValueError, match="before"):
        read_audio(path, 1, 0.5)
    with pytest.raises(MediaError):
        read_audio(tmp_path / "none.wav", 0, 1)
