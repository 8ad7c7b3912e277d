"""Crops around faces, worked by hand; the detector on a picture without a face. Real faces: the media tests."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest

from affectgrid.errors import MediaError
from affectgrid.media.faces import (
    CorrelationFollower,
    DlibDetector,
    FaceBox,
    FaceTracker,
    align_face,
    choose_face,
    crop_face,
    landmark_predictor,
)


def coordinates(height: int, width: int) -> np.ndarray:
    """Pixel (row, column) holds (row, column, 0)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)


def test_a_crop_is_the_square_around_the_box():
    crop = crop_face(coordinates(100, 100), FaceBox(40, 30, 60, 50), margin=0)
    assert crop.shape == (20, 20, 3)
    assert crop[0, 0].tolist() == [30, 40, 0]
    assert crop[-1, -1].tolist() == [49, 59, 0]


def test_margin_grows_every_side_and_a_tall_box_becomes_square():
    crop = crop_face(coordinates(100, 100), FaceBox(45, 30, 55, 50), margin=0.5)  # longer side 20, doubled: 40
    assert crop.shape == (40, 40, 3)
    assert crop[0, 0].tolist() == [20, 30, 0]  # centre (40, 50) minus 20


def test_over_the_edge_the_nearest_pixel_is_repeated():
    crop = crop_face(coordinates(50, 50), FaceBox(-10, -10, 10, 10), margin=0)
    assert crop.shape == (20, 20, 3)
    assert crop[:10, :10].max() == 0
    assert crop[-1, -1].tolist() == [9, 9, 0]
    far = crop_face(coordinates(50, 50), FaceBox(45, 45, 65, 65), margin=0)
    assert far[-1, -1].tolist() == [49, 49, 0]


def test_left_and_right_are_told_among_the_two_largest():
    left, right, passer_by = FaceBox(10, 0, 30, 20), FaceBox(60, 0, 85, 25), FaceBox(0, 0, 5, 5)
    boxes = [passer_by, left, right]
    assert choose_face(boxes) is right
    assert choose_face(boxes, "left") is left
    assert choose_face(boxes, "right") is right
    assert choose_face([left], "right") is left
    assert choose_face([]) is None


def test_no_face_in_a_plain_picture():
    pytest.importorskip("dlib")
    assert DlibDetector().detect(np.full((120, 160, 3), 128, np.uint8)) == []


def test_a_missing_detector_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MediaError, match=r"affectgrid\[faces\]"):
        DlibDetector()


class ScriptedDetector:
    """Finds the square that stands for a face where the script says that it can be found, and counts its calls."""

    def __init__(self, visible: Callable[[int], bool]) -> None:
        self.visible, self.calls = visible, []

    def detect(self, rgb: np.ndarray) -> list[FaceBox]:
        number = int(rgb[0, 0, 0])
        self.calls.append(number)
        return [square(number)] if self.visible(number) else []

    def follow(self, rgb: np.ndarray, box: FaceBox) -> CorrelationFollower:
        return CorrelationFollower(rgb, box)


def square(number: int) -> FaceBox:
    return FaceBox(40 + 2 * number, 40, 80 + 2 * number, 80)


def moving(number: int) -> np.ndarray:
    """A patterned square that moves 2 pixels a frame over a plain ground; pixel (0, 0) holds the frame's number."""
    pattern = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8).repeat(5, 0).repeat(5, 1)
    frame = np.full((120, 200, 3), 90, np.uint8)
    frame[40:80, 40 + 2 * number : 80 + 2 * number] = pattern[:, :, None]
    frame[0, 0] = number
    return frame


def test_between_detections_the_face_is_tracked():
    pytest.importorskip("dlib")
    detector = ScriptedDetector(lambda number: True)
    tracker = FaceTracker(detector, every=10)
    boxes = [tracker.find(number, moving(number)) for number in range(25)]
    assert detector.calls == [0, 10, 20]
    for number, box in enumerate(boxes):
        assert box is not None
        assert abs(box.left - square(number).left) < 4
        assert abs(box.top - 40) < 4


def test_where_no_face_is_followed_every_frame_is_searched():
    pytest.importorskip("dlib")
    detector = ScriptedDetector(lambda number: number >= 13)
    tracker = FaceTracker(detector, every=10)
    found = [tracker.find(number, moving(number)) is not None for number in range(22)]
    assert found == [number >= 13 for number in range(22)]
    assert detector.calls == [*range(14), 20]


def test_tracking_from_the_last_scheduled_frame_equals_the_whole():
    pytest.importorskip("dlib")
    whole_tracker = FaceTracker(ScriptedDetector(lambda number: number not in (10, 11)), every=10)
    whole = [whole_tracker.find(number, moving(number)) for number in range(20)]
    part = FaceTracker(ScriptedDetector(lambda number: number not in (10, 11)), every=10)
    assert part.begin(16) == 10
    found = [part.find(number, moving(number)) for number in range(10, 20)]
    assert found == whole[10:]
    assert part.begin(20) == 20  # it comes next
    assert part.begin(25) == 20


def test_alignment_turns_the_eyes_level(tmp_path):
    """A predictor trained on one drawn face finds its own five landmarks; the chip of the turned face is upright."""
    dlib = pytest.importorskip("dlib")
    pictures, shapes = zip(*[drawn_face(degrees) for degrees in range(-30, 31, 5)], strict=True)
    box = dlib.rectangle(60, 60, 139, 139)
    labels = [
        [dlib.full_object_detection(box, dlib.points([dlib.point(int(x), int(y)) for x, y in shape]))]
        for shape in shapes
    ]
    options = dlib.shape_predictor_training_options()
    options.cascade_depth, options.num_trees_per_cascade_level, options.tree_depth = 6, 40, 3
    options.oversampling_amount, options.random_seed, options.num_threads = 20, "0", 1
    dlib.train_shape_predictor(list(pictures), labels, options).save(str(tmp_path / "five.dat"))
    predictor = landmark_predictor(str(tmp_path / "five.dat"))
    face = FaceBox(60, 60, 140, 140)
    upright, turned = (align_face(drawn_face(degrees)[0], face, predictor) for degrees in (0, 20))
    untouched = crop_face(drawn_face(20)[0], face)
    assert upright.shape == turned.shape == untouched.shape == (112, 112, 3)

    def difference(picture: np.ndarray) -> float:
        return float(np.abs(picture[20:-20, 20:-20].astype(float) - upright[20:-20, 20:-20]).mean())

    assert difference(turned) < 0.6 * difference(untouched)


def drawn_face(degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Eyes and a nose as dark discs on a bright face, turned about its middle; dlib's five points."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # outer and inner corner of the right eye (dlib counts from the left of the picture), of the left one, the nose
    points = np.array([[27, -15], [12, -15], [-27, -15], [-12, -15], [0, 17]], float) @ turn.T + 100
    rows, columns = np.mgrid[:200, :200]
    face = np.where((rows - 100) ** 2 + (columns - 100) ** 2 < 55**2, 220, 60).astype(np.uint8)
    for (x, y), radius in zip([*(points[[0, 2]] + points[[1, 3]]) / 2, points[4]], (8, 8, 6), strict=True):
        face[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = 20
    return np.repeat(face[:, :, None], 3, axis=2), points


def test_a_landmark_file_that_is_none_is_refused(tmp_path):
    pytest.importorskip("dlib")
    (tmp_path / "not.dat").write_bytes(b"no predictor")
    with pytest.raises(MediaError, match="MED-LANDMARKS"):
        landmark_predictor(str(tmp_path / "not.dat"))
