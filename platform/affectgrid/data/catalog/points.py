"""Labels at points of their own, in time or at some frames, and how they become labels of every frame."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from affectgrid.data.annotations import Annotation, FrameTimes, LabelFile
from affectgrid.errors import AnnotationError, Problem
from affectgrid.storage import show_places, staged

Clock = Literal["frames", "seconds", "track"]
Version = tuple[int, int]

_GAP_STEPS = 3.0  # points in time that are further apart than so many median steps have nothing between them
_ROUNDING_S = 1e-3  # times in files are rounded, often to milliseconds


@dataclasses.dataclass(frozen=True)
class Scale:
    """The ends of a scale of labels; its middle is neutral."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:g}, {self.high:g}]"

    def normalise(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of the scale in [-1, 1]."""
        return np.clip(2 * (values - self.low) / (self.high - self.low) - 1, -1, 1)


UNIT = Scale(-1, 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Course:
    """One dimension of a track's labels.

    Args:
        at: where the labels are, ascending, float64 [point]: frame_index from 1, or seconds. Empty if they hold for the
            whole track.
        value: float64 [point], NaN where there is none, in the data set's own scale; of a whole track [1].
    """

    at: NDArray[np.float64]
    value: NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Points:
    """Labels of a track as a data set has them.

    Args:
        clock: what `Course.at` counts.
        odd: what was wrong with each line that was masked.
    """

    valence: Course
    arousal: Course
    clock: Clock
    odd: tuple[Problem, ...] = ()


@dataclasses.dataclass(frozen=True)
class LabelPoints(LabelFile):
    """Labels of one track in files of another format than Aff-Wild2's.

    They become labels of the video's frames when they are read: interpolated linearly where their rate is another, and
    masked before the first point, after the last, beside a missing one and in gaps.

    Args:
        path: the file, or the first of several.
        read_points: a module's function, so that it can travel to another node.
        others: further files.
        key: which rows of the files are of this track, where they have those of several.
        valence_scale, arousal_scale: of the files.
    """

    read_points: Callable[[LabelPoints], Points] = dataclasses.field(kw_only=True)
    others: tuple[Path, ...] = ()
    key: str = ""
    valence_scale: Scale = UNIT
    arousal_scale: Scale = UNIT

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file that the labels are read from."""
        return (self.path, *self.others)

    @property
    def choice(self) -> bytes:
        """What the labels depend on beside the files' bytes."""
        name = self.read_points.__module__.rpartition(".")[2]
        return f"\0{name} {self.key} {self.valence_scale} {self.arousal_scale}".encode() + super().choice

    def state(self) -> bytes:
        """All that the labels depend on: a digest of the files, and how they are read. Raises OSError."""
        return b"".join(_digest(path, version(path)) for path in self.paths) + self.choice

    def read(self, times: FrameTimes | None) -> Annotation:
        """Labels of every frame. Raises AnnotationError, also ANN-CLOCK where frames have no times to join them by."""
        points = self.read_points(self)
        if not len(points.valence.value) or not len(points.arousal.value):
            refuse(self.path, "ANN-EMPTY", "no label", "at least one", "restore the file")
        place = _PLACES[points.clock]
        if points.clock == "frames":
            last = max(points.valence.at[-1], points.arousal.at[-1])
            when = np.arange(1, int(last) + 1, dtype=np.float64)
        else:
            when = self._frame_times(times)
        both = (
            scale.normalise(place(course, when))
            for course, scale in ((points.valence, self.valence_scale), (points.arousal, self.arousal_scale))
        )
        va = np.stack(list(both), axis=1).astype(np.float32)
        valid: NDArray[np.bool_] = np.asarray(np.isfinite(va).all(axis=1))
        if not valid.any():
            found = f"no label for any of {len(va)} frames" + (f", first {points.odd[0]}" if points.odd else "")
            refuse(self.path, "ANN-MASKED", found, "at least one label", "leave the track out, or check its times")
        va[~valid] = 0
        return Annotation(va, valid, points.odd)

    def _frame_times(self, times: FrameTimes | None) -> NDArray[np.float64]:
        found = times() if times is not None else np.zeros(0)
        if not np.isfinite(found).any():
            hint = "add the video: crops alone have no times"
            refuse(self.path, "ANN-CLOCK", "labels at times, for frames without", "a video that can be read", hint)
        return found


def version(path: Path) -> Version:
    """What tells a file from a later version of it, so that what several tracks share is read once. Raises OSError."""
    with staged(path) as local:
        status = local.stat()
        return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=64)
def _digest(path: Path, version: Version) -> bytes:
    with staged(path) as local, local.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _at_frames(course: Course, when: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every k-th frame is labelled, k the most frequent distance; a wider one is a gap."""
    return _between(course, when, reach=float(np.median(np.diff(course.at))) if len(course.at) > 1 else 0.0)


def _at_times(course: Course, when: NDArray[np.float64]) -> NDArray[np.float64]:
    step_s = float(np.median(np.diff(course.at))) if len(course.at) > 1 else 0.0
    first, last = course.at[0], course.at[-1]
    near = (when >= first - _ROUNDING_S) & (when <= last + _ROUNDING_S)
    return _between(course, np.where(near, np.clip(when, first, last), when), reach=_GAP_STEPS * step_s)


def _all_through(course: Course, when: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.full(len(when), course.value[0])


_PLACES: dict[Clock, Callable[[Course, NDArray[np.float64]], NDArray[np.float64]]] = {
    "frames": _at_frames,
    "seconds": _at_times,
    "track": _all_through,
}


def _between(course: Course, when: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Linear between neighbours at most `reach` apart [when]; NaN elsewhere, beside NaN, and outside."""
    found = np.full(len(when), np.nan)
    inside = np.flatnonzero((when >= course.at[0]) & (when <= course.at[-1]))
    at = when[inside]
    right = np.searchsorted(course.at, at)
    left = np.where(course.at[right] == at, right, right - 1)
    gap = course.at[right] - course.at[left]
    weight = np.divide(at - course.at[left], gap, out=np.zeros(len(at)), where=gap > 0)
    mixed = course.value[left] * (1 - weight) + course.value[right] * weight
    found[inside] = np.where(gap <= reach * (1 + 1e-6), mixed, np.nan)
    return found


def refuse(path: Path, code: str, found: str, expected: str, hint: str, *, line: int | str = 0) -> NoReturn:
    """Raise an AnnotationError about a file, or one of its lines, by number or name."""
    where = show_places(str(path)) + (f":{line}" if line else "")
    raise AnnotationError(Problem(code, where=where, found=found, expected=expected, hint=hint))
