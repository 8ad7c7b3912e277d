"""Which chunks an encode run has to do: decided before any work, from the catalog and the store. No I/O here."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Literal

StreamKind = Literal["visual", "audio"]
Person = Literal["largest", "left", "right"]


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A run of frames (visual) or hops (audio) of one track: the unit of work, of retry and of resume.

    Args:
        stream: which stream it belongs to.
        track: the track's id.
        number: 0-based number of the chunk in its track and stream.
        start, stop: 0-based positions, half-open.
        video, crops: what it is read from; crops only for the visual stream.
        person: whose face a detector looks for.
    """

    stream: StreamKind
    track: str
    number: int
    start: int
    stop: int
    video: str | None
    crops: str | None
    person: Person = "largest"

    @property
    def size(self) -> int:
        """Frames or hops."""
        return self.stop - self.start


def cut_chunks(
    stream: StreamKind,
    track: str,
    total: int,
    size: int,
    *,
    video: str | None,
    crops: str | None = None,
    person: Person = "largest",
) -> list[Chunk]:
    """Cut `total` frames or hops into chunks of at most `size`, nearly equal, so that no worker idles on a stub."""
    count = max(1, math.ceil(total / size))
    edges = [round(total * k / count) for k in range(count + 1)]
    return [
        Chunk(stream, track, k, start, stop, video, crops, person)
        for k, (start, stop) in enumerate(itertools.pairwise(edges))
    ]


def num_hops(duration_s: float, hop_s: float) -> int:
    """Hops that cover a video whose last frame is at `duration_s`: centres 0, hop_s, ... and one past the end."""
    return math.ceil(duration_s / hop_s) + 1
