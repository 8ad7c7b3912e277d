"""What there is to encode: units, chunks and seconds of each stream."""

from __future__ import annotations

import dataclasses
import math

from affectgrid.data.features.report import Cost

VIDEO_BYTES_PER_HOUR = 0.9e9  # 2 Mbit/s


@dataclasses.dataclass(frozen=True)
class StreamWork:
    """One stream's work.

    Args:
        name: visual or audio.
        units: frames or hops.
        chunks: units of work.
        tracks: files that are written.
        cost: seconds that a unit takes for decoding and for encoding.
        row_bytes: bytes of a unit's features on disk.
        moved_bytes: bytes of a decoded unit, which travel where it is decoded on another machine.
    """

    name: str
    units: int
    chunks: int
    tracks: int
    cost: Cost
    row_bytes: float
    moved_bytes: float = 0.0

    @property
    def decode_chunk_s(self) -> float:
        """Seconds that a core decodes a chunk."""
        return self.units / self.chunks * self.cost.decode_s

    @property
    def encode_chunk_s(self) -> float:
        """Seconds that a core, or an accelerator, encodes a chunk."""
        return self.units / self.chunks * self.cost.encode_s

    def share(self, runs: int) -> StreamWork:
        """The part of one of several runs."""
        numbers = {name: math.ceil(getattr(self, name) / runs) for name in ("units", "chunks", "tracks")}
        return dataclasses.replace(self, **numbers)


@dataclasses.dataclass(frozen=True)
class Workload:
    """All streams of a corpus.

    Args:
        streams: those with something to do.
        tracks: videos.
        video_bytes: of all videos.
    """

    streams: tuple[StreamWork, ...]
    tracks: int
    video_bytes: float = 0.0

    @property
    def chunks(self) -> int:
        """Units of work in all."""
        return sum(stream.chunks for stream in self.streams)

    @property
    def files(self) -> int:
        """Files of features that are written."""
        return sum(stream.tracks for stream in self.streams)

    @property
    def feature_bytes(self) -> float:
        """Size of the features on disk."""
        return sum(stream.units * stream.row_bytes for stream in self.streams)

    def share(self, runs: int) -> Workload:
        """The part of one of several runs, each with tracks of its own."""
        streams = tuple(stream.share(runs) for stream in self.streams)
        return Workload(streams, math.ceil(self.tracks / runs), self.video_bytes / runs)


def stream_work(
    name: str, units_per_track: int, tracks: int, chunk: int, cost: Cost, *, row_bytes: float, moved_bytes: float
) -> StreamWork:
    """The work of tracks of equal length, cut into nearly equal chunks of at most `chunk` units."""
    chunks = tracks * max(1, math.ceil(units_per_track / chunk))
    return StreamWork(name, units_per_track * tracks, chunks, tracks, cost, row_bytes, moved_bytes)
