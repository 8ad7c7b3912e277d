"""dlib's detector (histograms of oriented gradients), its correlation tracker and its landmarks."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectgrid.errors import MediaError, Problem
from affectgrid.media.faces.boxes import FaceBox

_MIN_SIDE_PX = 300
_LOST_PSR = 6.0  # dlib's tracker: peak over sidelobes; 7 and more is a sure match, below 5 it has lost its object


class DlibDetector:
    """dlib's frontal HOG detector: from its wheel, offline, about 25 ms for 640 x 480 on one core.

    Args:
        upsample: how often the picture is doubled first. A face must span 80 pixels; each doubling halves that and
            costs four times as long. None: until the shorter side has 300 pixels, so that a face of about a quarter of
            it is found in any picture.

    Raises MediaError (MED-DETECTOR) where dlib is not installed.
    """

    def __init__(self, *, upsample: int | None = None) -> None:
        try:
            import dlib
        except ImportError as error:
            raise MediaError(
                Problem(
                    "MED-DETECTOR",
                    where="dlib",
                    found="not installed",
                    expected="a face detector",
                    hint="pip install 'affectgrid[faces]'",
                )
            ) from error
        self._detector = dlib.get_frontal_face_detector()
        self._upsample = upsample

    def detect(self, rgb: NDArray[np.uint8]) -> list[FaceBox]:
        """Faces by falling score."""
        upsample = self._upsample
        if upsample is None:
            upsample = max(0, math.ceil(math.log2(_MIN_SIDE_PX / min(rgb.shape[:2]))))
        rectangles, scores, _ = self._detector.run(np.ascontiguousarray(rgb), upsample, 0.0)
        boxes = [
            # dlib's right and bottom are the last pixel inside
            FaceBox(r.left(), r.top(), r.right() + 1, r.bottom() + 1, score)
            for r, score in zip(rectangles, scores, strict=True)
        ]
        return sorted(boxes, key=lambda box: -box.score)

    def follow(self, rgb: NDArray[np.uint8], box: FaceBox) -> CorrelationFollower:
        """By correlation."""
        return CorrelationFollower(rgb, box)


class CorrelationFollower:
    """dlib's correlation tracker, which follows whatever stood in the box."""

    def __init__(self, rgb: NDArray[np.uint8], box: FaceBox) -> None:
        import dlib

        self._tracker = dlib.correlation_tracker()
        corners = dlib.drectangle(box.left, box.top, box.right, box.bottom)
        self._tracker.start_track(np.ascontiguousarray(rgb), corners)

    def update(self, rgb: NDArray[np.uint8]) -> FaceBox | None:
        """Where it is now; None where nothing looks like it."""
        score = float(self._tracker.update(np.ascontiguousarray(rgb)))
        if score < _LOST_PSR:
            return None
        at = self._tracker.get_position()
        return FaceBox(at.left(), at.top(), at.right(), at.bottom(), score)


@functools.lru_cache(maxsize=2)
def landmark_predictor(path: str) -> Any:
    """dlib's shape predictor from a file of 5 or 68 points. Raises MediaError (MED-LANDMARKS)."""
    try:
        import dlib

        return dlib.shape_predictor(path)
    except (ImportError, RuntimeError) as error:
        raise MediaError(
            Problem("MED-LANDMARKS", where=path, found=str(error).splitlines()[0],
 expected="a dlib shape predictor of 5 or 68 points",
                    hint="pass such a file as landmarks, or none for faces as they stand")
        ) from error  # fmt: skip


def align_face(rgb: NDArray[np.uint8], box: FaceBox, predictor: Any, *, margin: float = 0.2) -> NDArray[np.uint8]:
    """The face turned upright, eyes level, at about its own size: [side, side, 3].

    dlib's face chip: the landmarks are fitted to a mean face by a similarity. A chip of padding 0 spans about the
    detector's box, so `margin` means what it means in ``crop_face``.
    """
    import dlib

    picture = np.ascontiguousarray(rgb)
    rectangle = dlib.rectangle(round(box.left), round(box.top), round(box.right) - 1, round(box.bottom) - 1)
    side = max(1, round(max(box.right - box.left, box.bottom - box.top) * (1 + 2 * margin)))
    chip: NDArray[np.uint8] = dlib.get_face_chip(picture, predictor(picture, rectangle), size=side, padding=margin)
    return chip
