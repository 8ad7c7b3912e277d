"""Which frames are encoded: worked by hand, and the same in whatever chunks a video is read."""

from __future__ import annotations

import itertools
import uuid
from pathlib import Path

import av
import numpy as np
import pytest
from pydantic import ValidationError

from affectgrid.data.features.streams import VisualStream
from affectgrid.distributed.encode.decoding import Row, StreamJob, decode
from affectgrid.distributed.encode.sandbox import Limits
from affectgrid.encoders.preprocess import ImagePreprocess
from affectgrid.encoders.unchanged import UnchangedFrames

NUM_FRAMES, SIDE = 23, 32


def pictures(*shades: float) -> np.ndarray:
    """Grey pictures."""
    return np.stack([np.full((3, SIDE, SIDE), shade, np.uint8) for shade in shades])


def choose(images: np.ndarray, *, first: int = 0, bound: float | None = 10, every: int = 5) -> list[int]:
    return UnchangedFrames(bound, every).choose(np.arange(first, first + len(images)), images)[0].tolist()


def test_every_picture_is_encoded_without_a_bound() -> None:
    assert choose(pictures(1, 1, 1), bound=None) == [0, 1, 2]


def test_a_still_picture_is_encoded_once_in_so_many() -> None:
    assert choose(pictures(*[7] * 12)) == [0] * 5 + [1] * 5 + [2] * 2
    assert choose(pictures(*[7] * 4), first=3) == [0, 0, 1, 1]


def test_a_change_of_the_bound_or_more_is_encoded_and_slow_ones_add_up() -> None:
    assert choose(pictures(100, 109, 110, 119, 120), every=100) == [0, 0, 1, 1, 2]


def test_one_changed_cell_is_enough() -> None:
    images = pictures(100, 100, 100)
    images[1, :, 4:6, 8:10] = 140  # 2 x 2 pixels of 32 x 32: a cell
    images[2, :, 4:6, 8:9] = 115  # half a cell by 15: 7.5
    assert choose(images) == [0, 1, 2]  # the third differs from the second
    assert choose(images[[0, 2]]) == [0, 0]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey, and brighter by steps of 0 to 12 levels."""
    path = tmp_path_factory.mktemp("video") / "steps.mkv"
    steps = np.random.default_rng(0).integers(0, 13, NUM_FRAMES)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "bgr0"
        for shade in np.cumsum(steps):
            frame = av.VideoFrame.from_ndarray(np.full((SIDE, SIDE, 3), shade, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(video: Path, start: int, stop: int, bound: float | None) -> Row:
    stream = VisualStream(crop="frame", skip_unchanged=bound, skip_at_most=4)
    job = StreamJob(stream, "f", ImagePreprocess(SIDE), 3, {})
    chunk = {
        "track": "steps", "stream": "visual", "number": 0, "start": start, "stop": stop, "video": str(video),
        "crops": None, "person": "largest", "annotation": None,
    }  # fmt: skip
    row = decode(chunk, jobs={"visual": job}, limits=Limits(60, 1 << 31, 1, uuid.uuid4().hex))
    assert row["error"] == ""
    return row


@pytest.mark.parametrize("edges", [(0, NUM_FRAMES), (0, 6, 7, 18, NUM_FRAMES)])
def test_what_a_frame_takes_does_not_depend_on_the_chunks(video: Path, edges: tuple[int, ...]) -> None:
    every = read(video, 0, NUM_FRAMES, None)["images"]
    rows = [read(video, start, stop, 10) for start, stop in itertools.pairwise(edges)]
    got = np.concatenate([row["images"][row["taken"]] for row in rows])
    numbers, _ = UnchangedFrames(10, 4).choose(np.arange(NUM_FRAMES), every)
    firsts = np.unique(numbers, return_index=True)[1]
    np.testing.assert_array_equal(got, every[firsts[numbers]])
    assert [len(row["frame_index"]) for row in rows] == [stop - start for start, stop in itertools.pairwise(edges)]
    if len(edges) == 2:
        assert len(rows[0]["images"]) == numbers[-1] + 1 < NUM_FRAMES


def test_it_does_not_go_with_a_frame_rate() -> None:
    with pytest.raises(ValidationError, match="give one"):
        VisualStream(skip_unchanged=8, frame_rate_hz=5)
