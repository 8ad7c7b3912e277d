"""Frames by position: every container against a decoder that reads from the start, frame by frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectgrid.errors import MediaError
from affectgrid.media import frames as module
from affectgrid.media.frames import FrameReader
from affectgrid.media.sampling import nearest_frames
from affectgrid.media.video import probe_video

HEIGHT, WIDTH = 48, 64


def picture(number: int) -> np.ndarray:
    """The number in binary as eight grey columns; a white corner at the top left tells which way is up."""
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for bit in range(8):
        rgb[16:, 8 * bit : 8 * bit + 8] = 220 if number >> bit & 1 else 30
    rgb[:12, :16] = 255
    return rgb


def number_of(rgb: np.ndarray) -> int:
    return sum(int(rgb[20:44, 8 * bit + 2 : 8 * bit + 6].mean() > 128) << bit for bit in range(8))


def write_video(path, codec="libx264", options=None, ticks=range(60), rotation=None, sound=False, fmt="yuv420p"):
    """Encode `picture(k)` at `ticks[k]` / 25 s."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options={"g": "12", **(options or {})})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, fmt
        stream.codec_context.time_base = Fraction(1, 25)
        if rotation:
            stream.set_display_rotation(rotation)
        audio = out.add_stream("aac", rate=16000, layout="mono") if sound else None
        for number, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if audio:
            wave = np.sin(np.arange(16000 * 2) / 5).astype(np.float32)[None]
            block = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            block.sample_rate, block.pts = 16000, 0
            out.mux(audio.encode(block))
            out.mux(audio.encode(None))
    return path


def reference(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


IRREGULAR = [3 * k + (k % 5 == 0) + (k > 20) * 40 for k in range(60)]
KINDS = {
    "b-frames.mp4": ("libx264", {"bf": "3"}, range(60)),
    "variable-rate.mp4": ("libx264", {"bf": "2"}, IRREGULAR),
    "one-keyframe.mp4": ("libx264", {"bf": "3", "g": "1000"}, range(60)),
    "open-gop.mkv": ("libx264", {"bf": "3", "x264-params": "open-gop=1:scenecut=0"}, range(60)),
    "open-gop.mp4": ("libx264", {"bf": "3", "x264-params": "open-gop=1:scenecut=0"}, range(60)),
    "intra-refresh.mp4": ("libx264", {"bf": "0", "x264-params": "intra-refresh=1"}, range(60)),
    "hevc-open-gop.mp4": ("libx265", {"x265-params": "log-level=none:open-gop=1:keyint=12:bframes=4"}, range(60)),
    "variable-rate.mkv": ("libx264", {"bf": "2"}, IRREGULAR),
    "h264.avi": ("libx264", {"bf": "3"}, range(60)),
    "mpeg4.avi": ("mpeg4", {"bf": "2"}, range(60)),
    "mjpeg.avi": ("mjpeg", {}, range(60)),
    "broadcast.ts": ("libx264", {"bf": "3"}, range(60)),
    "vp9.webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, range(60)),
    "vp8.webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "4"}, range(60)),
}


@pytest.fixture(scope="module", params=KINDS)
def video(request, tmp_path_factory):
    codec, options, ticks = KINDS[request.param]
    fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = tmp_path_factory.mktemp("video") / request.param
    return write_video(path, codec, options, ticks, fmt=fmt), np.array(list(ticks)) / 25


def test_the_index_counts_and_times_every_frame(video):
    path, times_s = video
    info = probe_video(path)
    assert info.num_frames == len(reference(path)) == 60
    times_s = times_s - times_s[0]
    np.testing.assert_allclose(info.frame_times_s - info.frame_times_s[0], times_s, atol=0.0011)  # Matroska: 1 ms
    assert (info.width, info.height, info.audio) == (WIDTH, HEIGHT, None)
    assert info.average_rate_hz == pytest.approx(59 / times_s[-1], rel=1e-3)


@pytest.mark.parametrize(("start", "stop"), [(0, 60), (0, 1), (11, 14), (12, 13), (23, 40), (37, 38), (59, 60)])
def test_a_chunk_alone_equals_the_same_frames_from_the_start(video, start, stop):
    path, _ = video
    info = probe_video(path)
    whole = reference(path)
    got = list(FrameReader(path, info).read(range(start, stop)))
    assert [index for index, _, _ in got] == list(range(start + 1, stop + 1))
    assert [time for _, time, _ in got] == info.frame_times_s[start:stop].tolist()
    for index, _, rgb in got:
        np.testing.assert_array_equal(rgb, whole[index - 1])
        assert number_of(rgb) == index - 1  # the reference decoder, too, is in presentation order


def test_seeking_decodes_no_more_than_the_group_of_pictures(tmp_path, monkeypatch):
    path = write_video(tmp_path / "v.mp4", options={"bf": "3", "x264-params": "scenecut=0"})
    info = probe_video(path)
    decoded = []
    real = FrameReader._decode
    monkeypatch.setattr(FrameReader, "_decode", lambda *a: (decoded.append(p) or (p, f) for p, f in real(*a)))
    list(FrameReader(path, info).read(range(50, 52)))
    assert min(decoded) >= 48 - 3  # keyframes at 0, 12, 24, 36, 48; leading B-frames may precede one
    assert max(decoded) == 51


def test_the_nearest_frames_of_a_grid_worked_by_hand():
    times = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert nearest_frames(times, 5.0).tolist() == [0, 2, 4, 6]
    assert nearest_frames(times, 4.0).tolist() == [0, 2, 5, 6]  # 0, .25 (two are as near: the earlier), .5, the last
    assert nearest_frames(times, 100.0).tolist() == list(range(7))
    assert nearest_frames(times, 0.1).tolist() == [0, 6]
    assert nearest_frames(np.array([3.0, 3.9, 4.05]), 1.0).tolist() == [0, 2]
    assert nearest_frames(np.array([2.0]), 5.0).tolist() == [0]
    assert nearest_frames(np.zeros(0), 5.0).tolist() == []
    # those shown at the times, never one that comes later, and the last one is not needed
    assert nearest_frames(np.array([3.0, 3.9, 4.05]), 1.0, causal=True).tolist() == [0, 1]
    assert nearest_frames(times, 100.0, causal=True).tolist() == list(range(7))


@given(steps=st.lists(st.floats(0.01, 0.5), min_size=1, max_size=60), rate_hz=st.floats(0.5, 60))
def test_every_point_of_the_grid_has_its_nearest_frame(steps, rate_hz):
    times = np.cumsum(steps)
    chosen = nearest_frames(times, rate_hz)
    assert np.all(np.diff(chosen) > 0)
    assert chosen[-1] == len(times) - 1
    grid = times[0] + np.arange(int((times[-1] - times[0]) * rate_hz)) / rate_hz
    for point in grid:
        assert np.abs(times[chosen] - point).min() == pytest.approx(np.abs(times - point).min())


@pytest.mark.parametrize("positions", [[0, 3, 4, 17, 18, 59], [50, 51, 2, 3], [12, 12, 11], [59, 0]])
def test_one_reader_gives_any_positions(video, positions):
    path, _ = video
    info = probe_video(path)
    whole = reference(path)
    with FrameReader(path, info) as reader:
        for position in positions:
            ((index, time_s, rgb),) = reader.read([position])
            assert (index, time_s) == (position + 1, info.frame_times_s[position])
            np.testing.assert_array_equal(rgb, whole[position])


def test_frames_in_between_are_not_converted_and_pieces_need_no_second_seek(tmp_path, monkeypatch):
    path = write_video(tmp_path / "v.mp4", options={"bf": "3", "x264-params": "scenecut=0"})
    info = probe_video(path)
    converted, opened = [], []
    to_rgb, decode = module._to_rgb, FrameReader._decode
    monkeypatch.setattr(module, "_to_rgb", lambda *a: converted.append(1) or to_rgb(*a))
    monkeypatch.setattr(FrameReader, "_decode", lambda *a: opened.append(1) or decode(*a))
    monkeypatch.setattr(module, "_MIN_FRAMES_TO_SEEK", 8)
    with FrameReader(path, info) as reader:
        assert [i for piece in ([0, 5, 10], [15, 20], [21]) for i, _, _ in reader.read(piece)] == [1, 6, 11, 16, 21, 22]
        assert (len(converted), len(opened)) == (6, 1)
        list(reader.read([59]))  # behind the keyframe at 48
    assert len(opened) == 2


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_honoured(tmp_path, degrees):
    path = write_video(tmp_path / "v.mp4", options={"qp": "10"}, ticks=range(3), rotation=degrees)
    info = probe_video(path)
    assert (info.width, info.height) == ((HEIGHT, WIDTH) if degrees % 180 else (WIDTH, HEIGHT))
    (_, _, rgb), *_ = FrameReader(path, info).read(range(1))
    assert rgb.shape == (info.height, info.width, 3)
    np.testing.assert_array_equal(rgb, np.rot90(reference(path)[0], degrees // 90))
    # set_display_rotation(90) turns the picture counter-clockwise: top left goes to bottom left
    corner = {90: rgb[-8:, :8], 180: rgb[-8:, -8:], 270: rgb[:8, -8:]}[degrees]
    assert corner.mean() > 240


def test_times_count_from_the_containers_start_and_sound_has_its_own_span(tmp_path):
    path = write_video(tmp_path / "v.mp4", ticks=range(10, 40), sound=True)
    info = probe_video(path)
    assert info.frame_times_s[0] == pytest.approx(10 / 25, abs=1e-3)  # sound begins at 0, pictures later
    assert info.audio is not None
    assert (info.audio.codec, info.audio.sample_rate_hz, info.audio.num_channels) == ("aac", 16000, 1)
    assert info.audio.start_s == pytest.approx(0, abs=0.07)
    assert info.audio.stop_s == pytest.approx(2, abs=0.1)


def refused(path: Path, **limits) -> str:
    with pytest.raises(MediaError) as caught:
        probe_video(path, **limits)
    return caught.value.problems[0].code


def test_a_cut_off_video_is_refused(tmp_path):
    for name in ("v.mkv", "v.avi", "fast.mp4", "v.mp4"):
        fast = {"movflags": "faststart"} if name == "fast.mp4" else {}
        path = tmp_path / name
        with av.open(str(path), "w", options=fast) as out:
            stream = out.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for number in range(150):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
            out.mux(stream.encode(None))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert refused(path) in {"MED-SHORT", "MED-DECODE"}, name


def test_limits_and_empty_and_missing(tmp_path):
    path = write_video(tmp_path / "v.mp4", ticks=range(5))
    assert refused(path, max_side_px=63) == "MED-SIZE"
    assert refused(path, max_frames=4) == "MED-LONG"
    (tmp_path / "empty.mp4").touch()
    assert refused(tmp_path / "empty.mp4") == "MED-EMPTY"
    assert refused(tmp_path / "none.mp4") == "MED-MISSING"
    assert refused(tmp_path) == "MED-MISSING"
    assert refused(Path("nul\0.mp4")) == "MED-NAME"
    assert refused(Path("http://127.0.0.1:9/v.mp4")) == "MED-NAME"


def test_playlists_that_pose_as_videos_open_nothing(tmp_path):
    real = write_video(tmp_path / "real.ts", ticks=range(5))
    playlists = {
        "hls.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{real}\n#EXT-X-ENDLIST\n",
        "concat.mp4": f"ffconcat version 1.0\nfile {real}\n",
        "sdp.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    }
    for name, text in playlists.items():
        (tmp_path / name).write_text(text)
        assert refused(tmp_path / name) == "MED-DECODE", name


def test_a_cover_picture_is_not_the_video(tmp_path):
    plain = write_video(tmp_path / "plain.mp4", ticks=range(8))
    path = tmp_path / "v.mp4"
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        moving = out.add_stream_from_template(source.streams.video[0])
        out.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = moving
                out.mux(packet)
        out.mux(cover.encode(None))
    info = probe_video(path)
    assert (info.num_frames, info.width) == (8, WIDTH)
    assert [number_of(rgb) for _, _, rgb in FrameReader(path, info).read(range(8))] == list(range(8))


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16000, layout="mono")
        block = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        block.sample_rate = 16000
        out.mux(stream.encode(block))
        out.mux(stream.encode(None))
    assert refused(path) == "MED-NO-VIDEO"
