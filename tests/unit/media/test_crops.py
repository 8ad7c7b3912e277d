"""Crops join by frame index, never by position."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from affectgrid.errors import MediaError
from affectgrid.media.faces.crops import list_crops, read_crop


def save(path, value=100):
    Image.fromarray(np.full((112, 112, 3), value, np.uint8)).save(path)
    return path


def test_indices_come_from_names_in_numeric_order(tmp_path):
    for name in ("00002.jpg", "00010.jpg", "00001.jpg", "100000.jpg"):
        save(tmp_path / name)
    (tmp_path / "Thumbs.db").touch()
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "frame3.jpg").touch()
    found = list_crops(tmp_path)
    assert list(found) == [1, 2, 10, 100000]
    assert found[10].name == "00010.jpg"


@pytest.mark.parametrize("names", [("00000.jpg",), ("00003.jpg", "3.png")])
def test_frame_zero_and_two_crops_of_one_frame_are_refused(tmp_path, names):
    for name in names:
        save(tmp_path / name)
    with pytest.raises(MediaError, match="MED-CROP-INDEX"):
        list_crops(tmp_path)


def test_grey_and_palette_pictures_become_rgb(tmp_path):
    Image.fromarray(np.full((5, 7), 90, np.uint8)).save(tmp_path / "1.png")
    rgb = read_crop(tmp_path / "1.png")
    assert rgb.shape == (5, 7, 3)
    assert rgb.dtype == np.uint8
    assert (rgb == 90).all()


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5])
def test_a_cut_off_picture_is_refused(tmp_path, keep):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (112, 112, 3), dtype=np.uint8)).save(tmp_path / "1.jpg")
    data = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(data[: int(len(data) * keep) if keep < 1 else keep])
    with pytest.raises(MediaError, match="MED-CROP"):
        read_crop(tmp_path / "1.jpg")


def test_other_formats_that_pose_as_jpeg_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "1.gif")
    (tmp_path / "1.gif").rename(tmp_path / "1.jpg")
    with pytest.raises(MediaError, match="MED-CROP"):
        read_crop(tmp_path / "1.jpg")
