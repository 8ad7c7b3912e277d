"""Which chunks an encode run has to do: decided before any work, from the catalog and the store. No I/O here."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
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
        annotation: where only labelled frames are encoded, the file that says which.
    """

    stream: StreamKind
    track: str
    number: int
    start: int
    stop: int
    video: str | None
    crops: str | None
    person: Person = "largest"
    annotation: str | None = None

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
    annotation: str | None = None,
    keyframes: Sequence[int] = (),
) -> list[Chunk]:
    """Cut `total` frames or hops into chunks of about `size`, nearly equal, so that no worker idles on a stub.

    An edge moves to the nearest of the `keyframes` (ascending) within half a chunk: decoding can begin only there, and
    a worker would decode what comes before its chunk for nothing.
    """
    count = max(1, math.ceil(total / size))
    edges = [round(total * k / count) for k in range(count + 1)]
    if keyframes:
        moved = [_nearest(keyframes, edge) for edge in edges[1:-1]]
        inner = [key if abs(key - edge) < size / 2 else edge for key, edge in zip(moved, edges[1:-1], strict=True)]
        edges = sorted({0, *inner, total})
    return [
        Chunk(stream, track, k, start, stop, video, crops, person, annotation)
        for k, (start, stop) in enumerate(itertools.pairwise(edges))
    ]


def _nearest(ascending: Sequence[int], value: int) -> int:
    """The nearest member; the earlier of two."""
    right = bisect.bisect_left(ascending, value)
    return min(ascending[max(0, right - 1) : right + 1], key=lambda member: abs(member - value))


def num_hops(duration_s: float, hop_s: float) -> int:
    """Hops that cover a video whose last frame is at `duration_s`: centres 0, hop_s, ... and one past the end."""
    return math.ceil(duration_s / hop_s) + 1


@dataclasses.dataclass(frozen=True)
class Amount:
    """A number of tracks, and their frames or hops as far as they are known."""

    tracks: int = 0
    units: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.tracks + other.tracks, self.units + other.units)


@dataclasses.dataclass(frozen=True)
class StreamPlan:
    """What an encode run finds and has to do for one stream.

    Args:
        stream: visual (its units are frames) or audio (hops).
        there: tracks in the catalog; frames of those whose files could be looked at.
        done: stored already.
        held: in quarantine; nothing is known of their frames.
        row_bytes: bytes that one unit takes on disk, before compression, which finds little in features.
    """

    stream: StreamKind
    there: Amount
    done: Amount
    todo: Amount
    held: int
    row_bytes: float

    @property
    def todo_bytes(self) -> int:
        """Size on disk of what is to do, at most."""
        return math.ceil(self.todo.units * self.row_bytes)


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds that one frame or hop takes on one thread, or one accelerator, for decoding and for encoding."""

    decode_s: float
    encode_s: float


@dataclasses.dataclass(frozen=True)
class EncodePlan:
    """What lies before an encode run.

    Args:
        streams: one entry each.
        changed: pairs of track and stream that are stored, but from other files than those that are there now.
        seconds: expected time; None when it was not measured.
        cpus, gpus: of the cluster.
    """

    streams: tuple[StreamPlan, ...]
    changed: int
    seconds: float | None
    cpus: int
    gpus: float


def tally(
    stream: StreamKind, done: Mapping[str, int], todo: Mapping[str, tuple[int, int]], held: Collection[str], dim: int
) -> StreamPlan:
    """Add up one stream.

    Args:
        stream: its name.
        done: units of each finished track.
        todo: of each unfinished track, all units and those that are missing: chunks of a killed run are kept.
        held: tracks in quarantine.
        dim: length of a feature.
    """
    missing = sum(left for _, left in todo.values())
    kept = sum(total - left for total, left in todo.values())
    finished = Amount(len(done), sum(done.values()) + kept)
    work = Amount(len(todo), missing)
    there = Amount(len(done) + len(todo) + len(held), finished.units + work.units)
    return StreamPlan(stream, there, finished, work, len(held), row_bytes(dim))


def row_bytes(dim: int) -> float:
    """Bytes of one row: a float16 feature, an index, a time and a bit."""
    return 2 * dim + 4 + 8 + 1 / 8


def expected_seconds(
    units: Mapping[str, int], costs: Mapping[str, Cost], *, cpus: int, encoders: int, gpus: float = 0
) -> float:
    """How long the units of each stream take when decoding and encoding overlap: the slowest resource decides.

    With GPUs the encoders have one each and the cores decode. Without, encoders share the cores with decoding, and no
    more than `encoders` of them encode at a time. A stream without a cost counts nothing.
    """
    decode_s = sum(count * costs[stream].decode_s for stream, count in units.items() if stream in costs)
    encode_s = sum(count * costs[stream].encode_s for stream, count in units.items() if stream in costs)
    if gpus:
        return max(decode_s / cpus, encode_s / max(1, min(encoders, gpus)))
    return max((decode_s + encode_s) / cpus, encode_s / min(encoders, cpus))


def worth_calibrating(units: Mapping[str, int]) -> bool:
    """Whether a run is long enough that its time is worth the seconds of measuring it."""
    return sum(units.values()) >= CALIBRATE_FROM


CALIBRATE_FROM = 20_000  # frames and hops: a minute or so of ViT-B/32 on a few cores
