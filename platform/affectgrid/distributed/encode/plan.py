"""What an encode run has to do: its chunks, which of them are missing, how they are spread, how long they take.

Decided before any work, from what the catalog, the store and the cluster are known to hold: no Ray and no I/O here.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
import pickle
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from affectgrid.analysis.capacity.conditions import Conditions
from affectgrid.analysis.capacity.encoding import Layout, estimate_encoding
from affectgrid.analysis.capacity.machines import Fleet, Machine
from affectgrid.analysis.capacity.stage import Stage
from affectgrid.analysis.capacity.workload import StreamWork, Workload
from affectgrid.data.catalog import Track
from affectgrid.data.features.report import Amount, Cost, StreamPlan, row_bytes
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.media.faces import Person
from affectgrid.media.sampling import Source

Key = tuple[str, str]  # track id, stream
CALIBRATE_FROM = 20_000  # frames and hops: a minute or so of ViT-B/32 on a few cores
IN_FLIGHT = 2  # chunks that an encoder is given where decoding is separate: one to work on, one waiting


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
        annotation: where only labelled frames are encoded, the `LabelFile` that says which, pickled: Ray's rows carry
            no objects.
    """

    stream: str
    track: str
    number: int
    start: int
    stop: int
    video: str | None
    crops: str | None = None
    person: Person = "largest"
    annotation: bytes | None = None

    @property
    def size(self) -> int:
        """Frames or hops."""
        return self.stop - self.start


def cut_chunks(
    stream: str, track: str, total: int, size: int, *, keyframes: Sequence[int] = (), **read_from: Any
) -> list[Chunk]:
    """Cut `total` frames or hops into nearly equal chunks of about `size`, so that no worker idles after a short one.

    An edge moves to the nearest of the `keyframes` (ascending) within half a chunk: decoding can begin only there, and
    a worker would decode what comes before its chunk for nothing. `read_from`: the other fields of `Chunk`.
    """
    count = max(1, math.ceil(total / size))
    edges = [round(total * k / count) for k in range(count + 1)]
    if keyframes:
        moved = [_nearest(keyframes, edge) for edge in edges[1:-1]]
        inner = [key if abs(key - edge) < size / 2 else edge for key, edge in zip(moved, edges[1:-1], strict=True)]
        edges = sorted({0, *inner, total})
    return [
        Chunk(stream, track, k, start, stop, **read_from) for k, (start, stop) in enumerate(itertools.pairwise(edges))
    ]


def _nearest(ascending: Sequence[int], value: int) -> int:
    """The nearest member; the earlier of two."""
    right = bisect.bisect_left(ascending, value)
    return min(ascending[max(0, right - 1) : right + 1], key=lambda member: abs(member - value))


def num_units(kind: str, source: Source, config: EncodeConfig) -> int:
    """Frames of a video, or the hops that cover it: centres 0, hop_s, ... and one at or past its last frame's time.

    Data sets cut their crops with decoders of their own: those beyond the last frame of ours are frames too.
    """
    if kind == "audio":
        return math.ceil(source.duration_s / config.audio.hop_s) + 1
    return max(source.num_frames, source.last_crop if config.visual.crop == "crops" else 0)


@dataclasses.dataclass(frozen=True)
class TrackPlan:
    """One stream of one track: its chunks, and the numbers of those that no part in the store holds."""

    chunks: tuple[Chunk, ...]
    missing: frozenset[int]
    source_sha256: str

    @property
    def todo(self) -> list[Chunk]:
        """The missing chunks."""
        return [chunk for chunk in self.chunks if chunk.number in self.missing]


def plan_track(
    track: Track, kind: str, source: Source, parts: Mapping[int, tuple[int, int]], config: EncodeConfig
) -> TrackPlan:
    """Cut a track, and leave out the chunks that `parts` has: by chunk number, the positions that a part holds."""
    total, video = num_units(kind, source, config), _text(track.video)
    if kind == "visual":
        crops = _text(track.crops) if config.visual.crop == "crops" else None
        labels = track.labels if config.visual.frames == "labelled" else None
        chunks = cut_chunks(
            kind, track.id, total, config.chunk_frames, keyframes=() if crops else source.keyframes,
            video=video, crops=crops, person=track.person, annotation=labels and pickle.dumps(labels),
        )  # fmt: skip
    else:
        chunks = cut_chunks(kind, track.id, total, config.chunk_hops, video=video)
    # The positions are compared too: another chunk size makes other chunks of the same numbers.
    missing = frozenset(chunk.number for chunk in chunks if parts.get(chunk.number) != (chunk.start, chunk.stop))
    return TrackPlan(tuple(chunks), missing, source.digest)


def _text(path: object | None) -> str | None:
    """A path as Ray's rows carry it."""
    return None if path is None else str(path)


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that is not finished, in the order in which it is encoded."""

    tracks: Mapping[Key, TrackPlan]

    @property
    def todo(self) -> list[Chunk]:
        """The chunks to encode."""
        return [chunk for track in self.tracks.values() for chunk in track.todo]

    @property
    def units(self) -> dict[str, int]:
        """Frames and hops to encode, by stream."""
        units: dict[str, int] = {"visual": 0, "audio": 0}
        for chunk in self.todo:
            units[chunk.stream] += chunk.size
        return units

    def tally(self, stream: str, done: Mapping[str, int], held: Collection[str], dim: int) -> StreamPlan:
        """Add up one stream; the finished chunks of a killed run count as done.

        Args:
            stream: its name.
            done: units of each finished track.
            held: tracks in quarantine.
            dim: length of a feature.
        """
        mine = [track for (_, kind), track in self.tracks.items() if kind == stream]
        total = sum(chunk.size for track in mine for chunk in track.chunks)
        todo = Amount(len(mine), self.units[stream])
        finished = Amount(len(done), sum(done.values()) + total - todo.units)
        there = finished + todo + Amount(len(held))
        chunks = sum(len(track.missing) for track in mine)
        return StreamPlan(stream, there, finished, todo, len(held), row_bytes(dim), chunks)


@dataclasses.dataclass(frozen=True)
class Placement:
    """How a run is spread over a cluster.

    Args:
        fused: decode and encode in one operator, or in two.
        encoders: processes that hold encoders.
        cpus, gpus: of the cluster.
    """

    fused: bool
    encoders: int
    cpus: int
    gpus: float

    @classmethod
    def of(cls, config: EncodeConfig, num_chunks: int, *, cpus: int, gpus: float) -> Placement:
        """What `config` asks for; by default an encoder per GPU, else one per core, half of them where it is split."""
        fused = config.placement == "fused" or (config.placement == "auto" and not gpus)
        encoders = config.encoders or int(gpus) or (cpus if fused else max(1, cpus // 2))
        return cls(fused, min(encoders, num_chunks), cpus, gpus)

    @property
    def max_waiting_chunks(self) -> int:
        """Back-pressure where decoding and encoding are apart: decoded chunks that may lie in the object store.

        One that each decoder is making, and for each encoder those that it was given and one more.
        """
        return self.cpus + (IN_FLIGHT + 1) * self.encoders


def expected_time(
    streams: Collection[StreamPlan],
    costs: Mapping[str, Cost],
    placement: Placement,
    *,
    start_s: float,
    request_s: float,
) -> Stage:
    """How long the streams' chunks take on the cluster as it is, and what decides it.

    Args:
        streams: what is to do. A stream without a cost counts nothing.
        costs: what a unit of a stream takes.
        placement: how the run is spread.
        start_s: until a worker works.
        request_s: one request of the driver to the store.
    """
    work = Workload(
        tuple(
            StreamWork(one.stream, one.todo.units, one.chunks, one.todo.tracks, costs[one.stream], one.row_bytes)
            for one in streams
            if one.stream in costs and one.chunks
        ),
        tracks=max((one.todo.tracks for one in streams), default=0),
    )
    here = Fleet(((Machine("this cluster", placement.cpus, int(placement.gpus)), 1),))
    conditions = Conditions(boot_s=0, loss_per_hour=0, prepare_s=0, worker_start_s=start_s, store_request_s=request_s)
    return estimate_encoding(work, here, conditions, Layout(placement.fused, placement.encoders))


def worth_calibrating(units: Mapping[str, int]) -> bool:
    """Whether a run is long enough that an estimate of its time is worth the seconds of calibration."""
    return sum(units.values()) >= CALIBRATE_FROM
