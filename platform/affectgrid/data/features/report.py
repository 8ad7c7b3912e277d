"""The plan and the result of an encode run, as facts for a report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Amount:
    """A number of tracks, and of their frames or hops where known."""

    tracks: int = 0
    units: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.tracks + other.tracks, self.units + other.units)


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds that one frame or hop takes on one thread, or one accelerator, for decoding and for encoding."""

    decode_s: float
    encode_s: float


def row_bytes(dim: int) -> float:
    """Bytes of one row: a float16 feature, an index, a time and a bit."""
    return 2 * dim + 4 + 8 + 1 / 8


@dataclasses.dataclass(frozen=True)
class StreamPlan:
    """What an encode run finds and has to do for one stream.

    Args:
        stream: visual (its units are frames) or audio (hops).
        there: tracks in the catalog; frames of those whose files could be probed.
        done: stored already.
        held: in quarantine; the number of their frames is unknown.
        row_bytes: bytes that one unit takes on disk, before compression, which gains little on features.
        chunks: units of work that are to do.
    """

    stream: str
    there: Amount
    done: Amount
    todo: Amount
    held: int
    row_bytes: float
    chunks: int = 0

    @property
    def todo_bytes(self) -> int:
        """Size on disk of what is to do, at most."""
        return math.ceil(self.todo.units * self.row_bytes)


@dataclasses.dataclass(frozen=True)
class EncodePlan:
    """The plan of an encode run.

    Args:
        streams: one entry each.
        changed: pairs of track and stream that are stored, but were made from other files than those present now.
        seconds: expected time; None when it was not measured.
        cpus, gpus: of the cluster.
        costs: of each stream, where it was measured.
        resources: seconds that each resource alone would need; the longest decides.
        waits: seconds that come on top.
    """

    streams: tuple[StreamPlan, ...]
    changed: int
    seconds: float | None
    cpus: int
    gpus: float
    costs: Mapping[str, Cost] = dataclasses.field(default_factory=dict)
    resources: Mapping[str, float] = dataclasses.field(default_factory=dict)
    waits: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Quarantined:
    """A track that could not be encoded, with the reason."""

    track: str
    stream: str
    reason: str


@dataclasses.dataclass(frozen=True)
class EncodeReport:
    """The result of an encode run.

    Args:
        fingerprints: the folder of each stream in the store.
        models: the encoder of each stream.
        tracks: tracks in the catalog.
        skipped: pairs of track and stream that were stored already.
        encoded: pairs of track and stream that this run stored.
        frames: frames and hops that this run encoded.
        seconds: wall time.
        quarantined: what failed, in this run or in an earlier one whose files have not changed since.
        costs: of each stream that was encoded, what a unit took.
    """

    fingerprints: dict[str, str]
    models: dict[str, str]
    tracks: int
    skipped: int
    encoded: int
    frames: int
    seconds: float
    quarantined: tuple[Quarantined, ...]
    costs: dict[str, Cost] = dataclasses.field(default_factory=dict)
