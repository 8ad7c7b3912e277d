"""Finding faces in whole frames, behind an interface that any detector can implement."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from affectgrid.errors import MediaError, Problem

_MIN_SIDE_PX = 300
_LOST_PSR = 6.0  # dlib's tracker: peak over sidelobes; 7 and more is a sure match, below 5 it has lost its object

Person = Literal["largest", "left", "right"]


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


@functools.cache
def default_detector() -> FaceDetector:
    """The one detector of this process."""
    return DlibDetector()


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


class FaceTracker:
    """One person's face through a video: detected in every k-th frame, followed by correlation between.

    Where no face is followed, every frame is searched, so a face that comes in waits for no schedule. What is found
    depends on nothing before the last scheduled frame: start there, and a part of a video equals that part of the
    whole.

    Args:
        detector: finds faces.
        every: k. 1 detects in every frame and never tracks.
        person: which face, if there are several.
    """

    def __init__(self, detector: FaceDetector, *, every: int = 1, person: Person = "largest") -> None:
        self._detector, self._every, self._person = detector, every, person
        self._tracker: Any = None
        self._next = 0

    def begin(self, number: int) -> int:
        """The frame number to start from so that frame `number` is found as in the whole: itself, if it comes next."""
        return number if number == self._next else number - number % self._every

    def find(self, number: int, rgb: NDArray[np.uint8]) -> FaceBox | None:
        """The face in a frame; `number` counts the frames that are looked at, one after another, from 0."""
        box, self._next = None, number + 1
        if number % self._every and self._tracker is not None:
            box = self._follow(rgb)
        if box is None:
            box = choose_face(self._detector.detect(rgb), self._person)
            self._tracker = None if box is None or self._every == 1 else _start_tracker(rgb, box)
        return box

    def _follow(self, rgb: NDArray[np.uint8]) -> FaceBox | None:
        score = float(self._tracker.update(np.ascontiguousarray(rgb)))
        if score < _LOST_PSR:
            return None
        at = self._tracker.get_position()
        return FaceBox(at.left(), at.top(), at.right(), at.bottom(), score)


def _start_tracker(rgb: NDArray[np.uint8], box: FaceBox) -> Any:
    import dlib

    tracker = dlib.correlation_tracker()
    tracker.start_track(np.ascontiguousarray(rgb), dlib.drectangle(box.left, box.top, box.right, box.bottom))
    return tracker


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
