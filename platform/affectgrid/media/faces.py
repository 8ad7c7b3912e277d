"""Finding faces in whole frames, behind an interface small enough for any detector."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from affectgrid.errors import MediaError, Problem

_SHORTEST_SIDE_PX = 300


@dataclasses.dataclass(frozen=True)
class FaceBox:
    """A face in pixels: left and top inclusive, right and bottom exclusive. May reach over the picture's edge."""

    left: float
    top: float
    right: float
    bottom: float
    score: float = 1.0

    @property
    def area(self) -> float:
        """In square pixels."""
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)


class FaceDetector(Protocol):
    """Anything that finds faces in one picture."""

    def detect(self, rgb: NDArray[np.uint8]) -> list[FaceBox]:
        """Boxes in the picture [height, width, 3]; none is a normal answer."""
        ...


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
                Problem("MED-DETECTOR", "dlib", "not installed", "a face detector", "pip install 'affectgrid[faces]'")
            ) from error
        self._detector = dlib.get_frontal_face_detector()
        self._upsample = upsample

    def detect(self, rgb: NDArray[np.uint8]) -> list[FaceBox]:
        """Faces by falling score."""
        upsample = self._upsample
        if upsample is None:
            upsample = max(0, math.ceil(math.log2(_SHORTEST_SIDE_PX / min(rgb.shape[:2]))))
        rectangles, scores, _ = self._detector.run(np.ascontiguousarray(rgb), upsample, 0.0)
        boxes = [
            # dlib's right and bottom are the last pixel inside
            FaceBox(r.left(), r.top(), r.right() + 1, r.bottom() + 1, score)
            for r, score in zip(rectangles, scores, strict=True)
        ]
        return sorted(boxes, key=lambda box: -box.score)


@functools.cache
def default_detector() -> FaceDetector:
    """The one detector of this process."""
    return DlibDetector()


def choose_face(boxes: Sequence[FaceBox], person: Literal["largest", "left", "right"] = "largest") -> FaceBox | None:
    """The face that a track means: the largest, or of the two largest the one further left or right in the picture."""
    if not boxes:
        return None
    largest = sorted(boxes, key=lambda box: -box.area)[:2]
    if person == "largest":
        return largest[0]
    pick = min if person == "left" else max
    return pick(largest, key=lambda box: box.left + box.right)


def crop_face(rgb: NDArray[np.uint8], box: FaceBox, *, margin: float = 0.2) -> NDArray[np.uint8]:
    """The square around a face, ``1 + 2 * margin`` times its longer side, [side, side, 3].

    Beyond the picture's edge the nearest pixel is repeated, so that a face in a corner keeps its proportions.
    """
    height, width = rgb.shape[:2]
    side = max(1, round(max(box.right - box.left, box.bottom - box.top) * (1 + 2 * margin)))
    left = round((box.left + box.right - side) / 2)
    top = round((box.top + box.bottom - side) / 2)
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    return np.ascontiguousarray(rgb[rows[:, None], columns[None, :]])
