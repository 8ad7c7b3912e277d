"""Pieces of tracks: in whatever pieces a video is read, the frames and faces are those of the whole."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from affectgrid.media import chunks as module
from affectgrid.media.chunks import FrameChunk, read_visual_chunk
from affectgrid.media.faces import CorrelationFollower, FaceBox

NUM_FRAMES, RATE_HZ = 90, 30


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bright square that crosses a dark picture, 3 s at 30 frames/s."""
    path = tmp_path_factory.mktemp("chunks") / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE_HZ, options={"g": "24"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(NUM_FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE_HZ)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def picture(number: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    rgb = rng.integers(20, 60, (96, 160, 3)).astype(np.uint8)
    rgb[30:62, number : number + 32] = rng.integers(100, 255, (8, 8, 3)).repeat(4, 0).repeat(4, 1)
    return rgb


class BrightSquare:
    """A detector of the square, by its brightness; blind while its left side is at 30 to 40."""

    def detect(self, rgb: np.ndarray) -> list[FaceBox]:
        bright = np.flatnonzero(rgb[40:50].mean(axis=(0, 2)) > 90)
        if len(bright) < 28 or 30 <= bright[0] <= 40:
            return []
        return [FaceBox(float(bright[0]), 30, float(bright[0] + 32), 62)]

    def follow(self, rgb: np.ndarray, box: FaceBox) -> CorrelationFollower:
        return CorrelationFollower(rgb, box)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "load_detector", lambda name: BrightSquare())
    yield
    forget()


def forget() -> None:
    """As in a process that has read nothing yet."""
    for cached in (module._reader, module._tracker, module._looked_at, module._info):
        cached.cache_clear()


def joined(pieces: list[FrameChunk]) -> tuple[list, list, list, list[np.ndarray]]:
    return (
        [int(i) for piece in pieces for i in piece.frame_index],
        [float(t) for piece in pieces for t in piece.time_s],
        [bool(p) for piece in pieces for p in piece.present],
        [image for piece in pieces for image in piece.images],
    )


SETTINGS = [
    {"crop": "frame"},
    {"crop": "frame", "frame_rate_hz": 7.0},
    {"crop": "detect"},
    {"crop": "detect", "detect_every": 8},
    {"crop": "detect", "detect_every": 4, "frame_rate_hz": 10.0},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("cuts", [[0, 1, 16, 32, 48, 64, 90], [0, 45, 90]], ids=len)
@pytest.mark.parametrize("anew", [True, False], ids=["each-alone", "one-after-another"])
def test_pieces_equal_the_whole(video: str, settings: dict, cuts: list[int], anew: bool):
    if "detect_every" in settings:
        pytest.importorskip("dlib")
    whole = joined([read_visual_chunk(video, None, 0, NUM_FRAMES, **settings)])
    pieces = []
    for start, stop in itertools.pairwise(cuts):
        if anew:
            forget()
        pieces.append(read_visual_chunk(video, None, start, stop, **settings))
    got = joined(pieces)
    assert got[:3] == whole[:3]
    assert len(got[3]) == len(whole[3]) == sum(whole[2])
    for ours, theirs in zip(got[3], whole[3], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_rate_looks_at_the_nearest_frames_only(video: str):
    chunk = read_visual_chunk(video, None, 0, NUM_FRAMES, crop="frame", frame_rate_hz=10.0)
    assert np.flatnonzero(chunk.present).tolist() == [*range(0, 90, 3), 89]
    assert chunk.frame_index.tolist() == list(range(1, 91))
    np.testing.assert_allclose(chunk.time_s, np.arange(90) / RATE_HZ, atol=1e-6)
    # H.264 keeps the square where it was drawn
    for image, position in zip(chunk.images, np.flatnonzero(chunk.present), strict=True):
        assert abs(int(np.argmax(image[45].mean(axis=1) > 90)) - position) <= 2


def test_a_tracked_face_is_found_where_the_detector_is_blind(video: str):
    """Blind while the square is at 30 to 40: a detection before that, in frame 24, is followed through."""
    pytest.importorskip("dlib")
    detected = read_visual_chunk(video, None, 0, NUM_FRAMES, crop="detect")
    assert not detected.present[31:40].any()
    forget()
    tracked = read_visual_chunk(video, None, 0, NUM_FRAMES, crop="detect", detect_every=24)
    assert tracked.present.all()
    places = [int(np.argmax(image[16].mean(axis=1) > 90)) for image in tracked.images[8:]]
    assert np.ptp(places) <= 5  # the square stays at its place in the crop


def test_crops_are_taken_at_the_rate_of_their_video(video: str, tmp_path: Path):
    for index in (1, 2, 3, 4, 7, 90, 95):
        Image.fromarray(np.full((8, 8, 3), index, np.uint8)).save(tmp_path / f"{index:05d}.png")
    every = read_visual_chunk(video, str(tmp_path), 0, 95, crop="crops")
    assert (np.flatnonzero(every.present) + 1).tolist() == [1, 2, 3, 4, 7, 90, 95]
    np.testing.assert_allclose(every.time_s[88:], np.arange(88, 95) / RATE_HZ)  # beyond the end the clock goes on
    source = module.probe(video, str(tmp_path))
    assert (source.num_frames, source.last_crop) == (90, 95)
    some = read_visual_chunk(video, str(tmp_path), 0, 95, crop="crops", frame_rate_hz=10.0)
    assert (np.flatnonzero(some.present) + 1).tolist() == [1, 4, 7, 90]
    assert [int(image[0, 0, 0]) for image in some.images] == [1, 4, 7, 90]
    without_clock = read_visual_chunk(None, str(tmp_path), 0, 95, crop="crops", frame_rate_hz=10.0)
    assert without_clock.present.sum() == 7


def test_a_labelled_frame_needs_itself_or_the_points_of_the_grid_on_both_sides():
    wanted = np.array([3, 4, 10])
    assert module.needed(wanted, None).tolist() == [3, 4, 10]
    assert module.needed(wanted, np.array([0, 5, 10, 15])).tolist() == [0, 5, 10]
    assert module.needed(np.array([17]), np.array([0, 5, 10, 15])).tolist() == [15]  # past the last point
    assert module.needed(np.array([], dtype=int), np.array([0, 5])).tolist() == []


@pytest.mark.parametrize("pieces", [(0, 90), (0, 10, 33, 90)])
def test_only_labelled_frames_are_looked_at(video: str, pieces: tuple[int, ...], monkeypatch: pytest.MonkeyPatch):
    labelled = np.zeros(80, dtype=bool)  # shorter than the video: what is past its end has no label
    labelled[[5, 6, 40]] = True
    asked: list[int] = []
    read = module.FrameReader.read

    def recording(reader, positions):
        asked.extend(positions := list(positions))
        return read(reader, positions)

    monkeypatch.setattr(module.FrameReader, "read", recording)
    found = [
        read_visual_chunk(video, None, start, stop, crop="frame", labelled=labelled)
        for start, stop in itertools.pairwise(pieces)
    ]
    present = np.concatenate([piece.present for piece in found])
    assert np.flatnonzero(present).tolist() == [5, 6, 40]
    assert asked == [5, 6, 40]
    (whole,) = [read_visual_chunk(video, None, 40, 41, crop="frame")]
    np.testing.assert_array_equal([image for piece in found for image in piece.images][-1], whole.images[0])
