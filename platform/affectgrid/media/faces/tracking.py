"""One person's face through a video, by any detector."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from affectgrid.media.faces.boxes import FaceBox, FaceDetector, Follower, Person, choose_face
from affectgrid.media.faces.hog import DlibDetector
from affectgrid.media.faces.mtcnn import MtcnnDetector

DetectorName = Literal["dlib", "mtcnn"]
_DETECTORS: dict[DetectorName, type[DlibDetector] | type[MtcnnDetector]] = {
    "dlib": DlibDetector,
    "mtcnn": MtcnnDetector,
}


@functools.cache
def load_detector(name: DetectorName) -> FaceDetector:
    """The one detector of that name in this process. Raises MediaError (MED-DETECTOR)."""
    return _DETECTORS[name]()


class FaceTracker:
    """One person's face through a video: detected in every k-th frame, followed between.

    Where no face is followed, every frame is searched, so a face that comes in waits for no schedule. What is found
    depends on nothing before the last scheduled frame: start there, and a part of a video equals that part of the
    whole.

    Args:
        detector: finds faces.
        every: k. 1 detects in every frame and never follows.
        person: which face, if there are several.
    """

    def __init__(self, detector: FaceDetector, *, every: int = 1, person: Person = "largest") -> None:
        self._detector, self._every, self._person = detector, every, person
        self._follower: Follower | None = None
        self._next = 0

    def begin(self, number: int) -> int:
        """The frame number to start from so that frame `number` is found as in the whole: itself, if it comes next."""
        return number if number == self._next else number - number % self._every

    def find(self, number: int, rgb: NDArray[np.uint8]) -> FaceBox | None:
        """The face in a frame; `number` counts the frames that are looked at, one after another, from 0."""
        box, self._next = None, number + 1
        if number % self._every and self._follower is not None:
            box = self._follower.update(rgb)
        if box is None:
            box = choose_face(self._detector.detect(rgb), self._person)
            found = box is not None and self._every > 1
            self._follower = self._detector.follow(rgb, box) if found and box is not None else None
        return box
