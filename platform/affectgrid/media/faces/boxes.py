"""A face in a picture, what finds and follows faces, and the square around one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Person = Literal["largest", "left", "right"]


@dataclasses.dataclass(frozen=True)
class FaceBox:
    """A face in pixels: left and top inclusive, right and bottom exclusive. May reach over the picture's edge.

    Args:
        left, top, right, bottom: its edges.
        score: the detector's own; higher is surer.
        points: x and y of the eyes, the tip of the nose and the corners of the mouth, each pair from the left of the
            picture to the right; empty from a detector that knows none.
    """

    left: float
    top: float
    right: float
    bottom: float
    score: float = 1.0
    points: tuple[tuple[float, float], ...] = ()

    @property
    def area(self) -> float:
        """In square pixels."""
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)


class Follower(Protocol):
    """Follows one face from the frame in which it was found."""

    def update(self, rgb: NDArray[np.uint8]) -> FaceBox | None:
        """The face in the next frame; None once it is lost."""
        ...


class FaceDetector(Protocol):
    """Anything that finds faces in one picture."""

    def detect(self, rgb: NDArray[np.uint8]) -> list[FaceBox]:
        """Boxes in the picture [height, width, 3], by falling score; none is a normal answer."""
        ...

    def follow(self, rgb: NDArray[np.uint8], box: FaceBox) -> Follower:
        """What follows the face that was found in this picture."""
        ...


def choose_face(boxes: Sequence[FaceBox], person: Person = "largest") -> FaceBox | None:
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
