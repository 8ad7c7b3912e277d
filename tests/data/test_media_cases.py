"""Odd videos: their count, times and pictures, read in order and read alone, against those of another FFmpeg."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from affectgrid.errors import MediaError
from affectgrid.media.audio import read_audio
from affectgrid.media.frames import FrameReader
from affectgrid.media.video import probe_video
from support import odd_media
from support.odd_media import H264, MPEG2, PICTURE_CASES, Maker

pytestmark = pytest.mark.media

# mean difference of a colour from FFmpeg's: it converts the halved colours of interlaced pictures field by field
SAME, INTERLACED = 1.0, 8.0


@pytest.fixture
def make(ffmpeg, tmp_path) -> Maker:
    return Maker(ffmpeg, tmp_path)


@dataclasses.dataclass
class Shown:
    """What FFmpeg's command shows of a video, upright, from the container's start on."""

    times_s: np.ndarray
    pictures: np.ndarray

    @classmethod
    def of(cls, ffmpeg: Path, video: Path) -> Shown:
        options = ["-an", "-vf", "showinfo", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        command = [str(ffmpeg), "-hide_banner", "-i", str(video), *options]
        done = subprocess.run(command, capture_output=True, check=True, timeout=120, stdin=subprocess.DEVNULL)
        log = done.stderr.decode(errors="replace")
        size = re.search(r"Stream.*rawvideo.*?, (\d{2,})x(\d{2,})", log)
        assert size is not None, log
        pictures = np.frombuffer(done.stdout, np.uint8).reshape(-1, int(size[2]), int(size[1]), 3)
        return cls(np.array([float(t) for t in re.findall(r"showinfo.* pts_time:\s*(\S+)", log)]), pictures)

    def require_same(self, position: int, rgb: np.ndarray, limit: float) -> None:
        """The picture is that of the position, and no other picture is as near."""
        assert rgb.shape == self.pictures.shape[1:]
        near = self.pictures[max(0, position - 5) : position + 6].astype(np.int16)
        errors = np.abs(near - rgb).mean(axis=(1, 2, 3))
        assert errors[min(position, 5)] <= limit
        assert errors.argmin() == min(position, 5)


@pytest.mark.parametrize("case", PICTURE_CASES)
def test_pictures_and_times_are_ffmpegs(case, make, ffmpeg):
    path = PICTURE_CASES[case](make)
    shown, info = Shown.of(ffmpeg, path), probe_video(path)
    assert info.num_frames == len(shown.pictures)
    np.testing.assert_allclose(info.frame_times_s, shown.times_s, atol=0.0011)  # Matroska rounds to 1 ms
    assert (info.height, info.width) == shown.pictures.shape[1:3]
    limit = INTERLACED if case == "h264 interlaced.ts" else SAME
    with FrameReader(path, info) as reader:
        for index, _, rgb in reader.read(range(info.num_frames)):
            shown.require_same(index - 1, rgb, limit)
    order = np.random.default_rng(0).permutation(info.num_frames)[:60]
    for position in order.tolist():
        with FrameReader(path, info) as reader:  # alone: another reader knows nothing of the frames before
            ((_, _, rgb),) = reader.read([position])
        shown.require_same(position, rgb, limit)
    with FrameReader(path, info) as reader:  # it stays open, and jumps to and fro
        for index, _, rgb in reader.read(order.tolist()):
            shown.require_same(index - 1, rgb, limit)


@pytest.mark.parametrize(
    ("case", "num_frames", "last_s"),
    [
        ("trimmed at the end", 75, 2.96),
        ("trimmed at both ends", 75, 2.96),
        ("begun in mid-GOP", 125, 5.4),
        ("fields, a packet each.mkv", 60, 2.36),
        ("packed bitstream", 150, 5.96),
    ],
)
def test_counts_that_are_known(case, num_frames, last_s, make):
    info = probe_video(PICTURE_CASES[case](make))
    assert info.num_frames == num_frames
    assert info.frame_times_s[-1] == pytest.approx(last_s, abs=0.05)


def test_pictures_without_their_keyframe_are_told(make):
    assert probe_video(odd_media.begun_late(make)).lost_frames == 11
    assert probe_video(make.film("whole.mp4", *H264, seconds=1)).lost_frames == 0


def test_a_trimmed_file_that_is_cut_off_is_still_refused(make):
    path = odd_media.cut_by_edit_list(make, make.flashes("whole.mp4"), 3.0, 0.0)
    make.run("-i", str(path), "-c", "copy", "-movflags", "faststart", "front.mp4")
    data = (make.folder / "front.mp4").read_bytes()
    (make.folder / "front.mp4").write_bytes(data[: len(data) * 2 // 3])
    assert refused(make.folder / "front.mp4") == "MED-SHORT"


@pytest.mark.parametrize(("duration_s", "start_s"), [(3.0, 0.0), (3.0, 1.5)])
def test_picture_and_sound_of_a_trimmed_file_stay_together(make, duration_s, start_s):
    path = odd_media.cut_by_edit_list(make, make.flashes("whole.mp4"), duration_s, start_s)
    info = probe_video(path)
    flashes = [time for _, time, rgb in FrameReader(path, info).read(range(info.num_frames)) if rgb.mean() > 128]
    sound, there = read_audio(path, 0, duration_s)
    loud = np.flatnonzero(np.abs(sound) > 0.2)
    clicks = loud[np.insert(np.diff(loud) > 4000, 0, True)] / 16_000
    assert len(flashes) >= 2
    np.testing.assert_allclose(clicks, flashes, atol=0.04)  # a picture may begin a frame before the cut
    assert there[: int(2.9 * 16_000)].all()


LATER = ("-output_ts_offset", "2.5")
JOINED = {
    "the same": ("ts", H264, H264),
    "other settings": ("ts", (*H264, "-x264-params", "cabac=0:ref=1"), (*H264, "-x264-params", "ref=4:8x8dct=1")),
    "overlapping": ("ts", H264, (*H264, "-output_ts_offset", "1")),
    "program streams": ("mpg", MPEG2, MPEG2),
}


@pytest.mark.parametrize("case", JOINED)
def test_recordings_whose_times_go_back_are_refused_with_a_way_out(case, make, ffmpeg):
    path = odd_media.joined(make, *JOINED[case])
    with pytest.raises(MediaError) as caught:
        probe_video(path)
    (problem,) = caught.value.problems
    assert (problem.code, "frame 51" in problem.found) == ("MED-TIMES", True)
    # the hint, taken literally
    command = problem.hint.split(": ")[1].replace("FILE", path.name).replace("NEW", "new").split()
    make.run(*command[1:])
    new = make.folder / "new.mkv"
    shown, info = Shown.of(ffmpeg, path), probe_video(new)
    assert info.num_frames == len(shown.pictures) == 100
    assert np.all(np.diff(info.frame_times_s) > 0)
    for index, _, rgb in FrameReader(new, info).read([99, 49, 50, 0]):
        shown.require_same(index - 1, rgb, SAME)


def test_recordings_joined_one_after_the_other_are_one_video(make, ffmpeg):
    settings = (*H264, "-x264-params", "cabac=0:ref=1"), (*H264, "-x264-params", "ref=4:8x8dct=1", *LATER)
    path = odd_media.joined(make, "ts", *settings)
    shown, info = Shown.of(ffmpeg, path), probe_video(path)
    assert info.num_frames == len(shown.pictures) == 100
    assert info.in_time_order
    for position in (99, 50, 49, 0, 60):
        with FrameReader(path, info) as reader:
            ((_, _, rgb),) = reader.read([position])
        shown.require_same(position, rgb, SAME)


def test_a_picture_alone_is_no_video(make):
    assert refused(odd_media.with_cover(make, moving=False)) == "MED-NO-VIDEO"


def hertz(path: Path) -> tuple[float, float]:
    """Frequency and root mean square of the sound's middle second."""
    sound, there = read_audio(path, 0.5, 1.5)
    assert there.all()
    return float(np.abs(np.fft.rfft(sound)).argmax()), float(np.sqrt(np.mean(np.square(sound))))


def test_a_commentary_is_not_the_sound(make):
    assert hertz(odd_media.two_sounds(make))[0] == 440


def test_a_default_sound_is_taken_though_it_is_second(make):
    path = odd_media.two_sounds(make)
    marks = ("-disposition:a:0", "0", "-disposition:a:1", "default")
    make.run("-i", str(path), "-map", "0:v", "-map", "0:a:1", "-map", "0:a:0", "-c", "copy", *marks, "second.mkv")
    assert hertz(make.folder / "second.mkv")[0] == 880


def test_sound_in_an_unknown_codec_is_absent_and_pictures_in_one_are_refused(make):
    info = probe_video(odd_media.unknown_codec(make, "sound"))
    assert (info.num_frames, info.audio) == (50, None)
    assert info.why_no_sound == "sound in a codec that this FFmpeg does not know"
    assert not read_audio(make.folder / "unknown.mov", 0, 1)[1].any()
    assert refused(odd_media.unknown_codec(make, "picture")) == "MED-CODEC"


def test_channels_in_antiphase_are_not_silence(make):
    frequency, level = hertz(odd_media.antiphase(make))
    assert frequency == 440
    assert level == pytest.approx(0.125 / 2**0.5, rel=0.1)  # FFmpeg's sine has an amplitude of 1/8


def refused(path: Path) -> str:
    with pytest.raises(MediaError) as caught:
        probe_video(path)
    return caught.value.problems[0].code
