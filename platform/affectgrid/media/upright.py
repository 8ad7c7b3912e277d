"""The display matrix of a video: how its stored pictures are turned and mirrored to be upright, as FFmpeg does it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import av.filter
import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Orientation:
    """What makes a stored picture upright; in this order.

    Args:
        tilt_degrees: clockwise, for an angle that is no multiple of 90: the picture keeps its size, corners are lost.
        rotation_degrees: counter-clockwise: 0, 90, 180 or 270.
        mirrored: left and right are exchanged last.
    """

    tilt_degrees: int = 0
    rotation_degrees: int = 0
    mirrored: bool = False

    @classmethod
    def of(cls, frame: Any) -> Orientation:
        """The orientation that a decoded frame carries."""
        data = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return cls()
        a, b, _, c, d, *_ = (float(value) for value in np.frombuffer(bytes(data), np.int32)[:9])
        if not (math.hypot(a, c) and math.hypot(b, d)):
            return cls()  # of no meaning
        degrees = math.degrees(math.atan2(b / math.hypot(b, d), a / math.hypot(a, c)))
        angle = round(degrees) % 360  # clockwise, in whole degrees as FFmpeg has them
        if angle % 90:
            return cls(tilt_degrees=angle)
        # a mirrored picture has a negative determinant; its angle is that of the stored rows alone
        mirrored = a * d - b * c < 0
        if not mirrored:
            return cls(rotation_degrees=-angle % 360)
        if angle in {90, 270}:
            # along one of the diagonals: the sign says which
            return cls(rotation_degrees=270 if c > 0 else 90, mirrored=True)
        return cls(rotation_degrees=0 if a < 0 else 180, mirrored=True)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return (height, width) if self.rotation_degrees % 180 else (width, height)

    def turn(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The upright picture, but for a tilt, for which see `Tilter`."""
        if not self.rotation_degrees and not self.mirrored:
            return rgb
        turned = np.rot90(rgb, self.rotation_degrees // 90)
        return np.ascontiguousarray(turned[:, ::-1] if self.mirrored else turned)


class Tilter:
    """FFmpeg's own filter for angles that are no multiple of 90."""

    def __init__(self, degrees: int) -> None:
        self._degrees = degrees
        self._graph: Any = None
        self._shape: tuple[int, int, str] | None = None

    def tilt(self, frame: Any) -> Any:
        """The turned frame, of the same size and format."""
        shape = (frame.width, frame.height, frame.format.name)
        if shape != self._shape:
            graph = av.filter.Graph()
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            )
            rotate = graph.add("rotate", f"{self._degrees}*PI/180")
            sink = graph.add("buffersink")
            source.link_to(rotate)
            rotate.link_to(sink)
            graph.configure()
            self._graph, self._shape = graph, shape
        self._graph.vpush(frame)
        return self._graph.vpull()
