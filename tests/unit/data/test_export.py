"""Predictions as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from affectgrid.data.export import Fill, Filled, without_faces, write_submission, write_track
from affectgrid.errors import CatalogError


def template(folder: Path, *lines: str) -> Path:
    path = folder / "template.txt"
    path.write_text("image_location,valence,arousal\n" + "".join(f"{line}\n" for line in lines))
    return path


def test_a_track_has_a_row_per_frame(tmp_path: Path) -> None:
    write_track(tmp_path / "a.csv", np.array([1, 2]), np.array([0.0, 0.04]), np.array([[0.5, -0.5], [1.0, 0.0]]))
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "frame,time_s,valence,arousal",
        "1,0.000,0.50000,-0.50000",
        "2,0.040,1.00000,0.00000",
    ]


def test_the_submission_keeps_the_order_of_the_template(tmp_path: Path) -> None:
    path = template(tmp_path, "b/00002.jpg,,", "a/00001.jpg", "b/00001.jpg")
    va = {"a": np.array([[0.1, 0.2]]), "b": np.array([[0.3, 0.4], [0.5, 0.6]])}
    assert write_submission(tmp_path / "out.txt", path, va) == ()
    assert not (tmp_path / "filled.csv").exists()
    assert (tmp_path / "out.txt").read_text().splitlines() == [
        "image_location,valence,arousal",
        "b/00002.jpg,0.50000,0.60000",
        "a/00001.jpg,0.10000,0.20000",
        "b/00001.jpg,0.30000,0.40000",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("c/00001.jpg", "track 'c' has no predictions"),
        ("a/00009.jpg", "track 'a' has predictions for 1 frames; expected 9 frames"),
        ("a/first.jpg", "template.txt:2: 'a/first.jpg'"),
        ("a/00000.jpg", "template.txt:2"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        write_submission(tmp_path / "out.txt", template(tmp_path, line), {"a": np.zeros((1, 2))})
    assert not (tmp_path / "out.txt").exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize(("fill", "last"), [("hold", "0.30000,0.40000"), ("neutral", "0.00000,0.00000")])
def test_what_no_video_has_is_filled_when_asked_for_and_listed(tmp_path: Path, fill: Fill, last: str) -> None:
    path = template(tmp_path, "a/00003.jpg", "b/00001.jpg", "a/00001.jpg", "a/00002.jpg")
    va = {"a": np.array([[0.3, 0.4]])}
    assert write_submission(tmp_path / "out.txt", path, va, fill=fill) == (Filled("a", 2, 3), Filled("b", 1, 1))
    assert (tmp_path / "out.txt").read_text().splitlines()[1:] == [
        f"a/00003.jpg,{last}",
        "b/00001.jpg,0.00000,0.00000",
        "a/00001.jpg,0.30000,0.40000",
        f"a/00002.jpg,{last}",
    ]
    assert (tmp_path / "filled.csv").read_text() == "track,first_frame,last_frame\na,2,3\nb,1,1\n"


def test_what_has_no_face_is_empty_or_filled_as_asked(tmp_path):
    va = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [0.7, 0.8]], np.float32)
    found = np.array([False, True, False, True])
    nan = np.nan
    np.testing.assert_array_equal(without_faces(va, found, None)[:, 0], np.float32([nan, 0.3, nan, 0.7]))
    np.testing.assert_array_equal(without_faces(va, found, "hold")[:, 0], np.float32([0, 0.3, 0.3, 0.7]))
    np.testing.assert_array_equal(without_faces(va, found, "neutral")[:, 1], np.float32([0, 0.4, 0, 0.8]))
    np.testing.assert_array_equal(without_faces(va, found, "model"), va)
    more = {"face_found": found.astype(np.float32), "region_a": np.array([0.5, 0.25, 1, 0])}
    write_track(tmp_path / "a.csv", np.arange(1, 5), np.arange(4) / 25, without_faces(va, found, None), more)
    assert (tmp_path / "a.csv").read_text().splitlines()[:3] == [
        "frame,time_s,valence,arousal,face_found,region_a",
        "1,0.000,,,0,0.50000",
        "2,0.040,0.30000,0.40000,1,0.25000",
    ]
