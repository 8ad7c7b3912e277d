"""Crops around faces, worked by hand; the detector on a picture without a face. Real faces: the media tests."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from affectgrid.errors import MediaError
from affectgrid.media.faces import DlibDetector, FaceBox, choose_face, crop_face


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
