"""Faces cut out of pictures, as they stand or turned upright."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affectgrid.media.faces.boxes import FaceBox, crop_face
from affectgrid.media.faces.hog import align_face, landmark_predictor

# Eyes, tip of the nose, corners of the mouth of a mean face looking ahead, in the square around its box.
_MEAN_FACE = np.array([0.33 + 0.40j, 0.67 + 0.40j, 0.50 + 0.60j, 0.37 + 0.76j, 0.63 + 0.76j])


def cut_face(
    rgb: NDArray[np.uint8], box: FaceBox, *, margin: float, upright: bool = False, landmarks: str | None = None
) -> NDArray[np.uint8]:
    """The square around a face, ``1 + 2 * margin`` times its longer side, [side, side, 3].

    `upright` turns it by the points of its box, where it has some; `landmarks`, a file of dlib's, by the points that
    this finds. Raises MediaError (MED-LANDMARKS).
    """
    if landmarks:
        return align_face(rgb, box, landmark_predictor(landmarks), margin=margin)
    if upright and box.points:
        return _turn(rgb, box, margin)
    return crop_face(rgb, box, margin=margin)


def _turn(rgb: NDArray[np.uint8], box: FaceBox, margin: float) -> NDArray[np.uint8]:
    """The face as a similarity fits its points to the mean face: eyes level, the same size and place in each frame."""
    points = np.array(box.points) @ np.array([1, 1j])
    mean, middle = _MEAN_FACE - _MEAN_FACE.mean(), points.mean()
    turn = np.vdot(mean, points - middle) / np.vdot(mean, mean)  # least squares: |turn| pixels are the box's side
    side = max(1, round(abs(turn) * (1 + 2 * margin)))
    steps = ((np.arange(side) + 0.5) / side) * (1 + 2 * margin) - margin
    places = middle + turn * (steps[None, :] + 1j * steps[:, None] - _MEAN_FACE.mean()) - (0.5 + 0.5j)
    return _sample(rgb, places.real, places.imag)


def _sample(rgb: NDArray[np.uint8], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Pixels between pixels, bilinear; beyond the edge the nearest one."""
    height, width = rgb.shape[:2]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = x.astype(np.intp), y.astype(np.intp)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, down = (x - left)[..., None].astype(np.float32), (y - top)[..., None].astype(np.float32)
    above = rgb[top, left] * (1 - across) + rgb[top, right] * across
    below = rgb[bottom, left] * (1 - across) + rgb[bottom, right] * across
    return np.asarray(np.rint(above * (1 - down) + below * down), np.uint8)
