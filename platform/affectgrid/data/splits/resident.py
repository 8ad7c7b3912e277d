"""A split in memory: one contiguous array per stream, so that a window is index arithmetic."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affectgrid.data.annotations import Annotation, read_annotation
from affectgrid.data.catalog import Track, raw_video
from affectgrid.data.features.sources import load_sources
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.table import FeatureTable
from affectgrid.data.splits.interpolation import fill_between, interpolate_into

FRAMES = "frames"  # the clock of a stream whose rows are frames of the video; that of any other is time


@dataclasses.dataclass(frozen=True, eq=False)
class StreamRows:
    """One stream of a split.

    Args:
        feature: float16 [row, dim], 0 where not present.
        present: bool [row].
    """

    feature: NDArray[np.float16]
    present: NDArray[np.bool_]

    @property
    def dim(self) -> int:
        """Length of one feature."""
        return int(self.feature.shape[1])

    @classmethod
    def absent(cls, num_rows: int, dim: int) -> StreamRows:
        """A stream that no row has; it takes no memory."""
        return cls(np.broadcast_to(np.float16(0), (num_rows, dim)), np.zeros(num_rows, np.bool_))


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Frames of every track, one after another; plain arrays, which Ray maps without a copy.

    Args:
        name: train, validation or test.
        track_ids: in the order of the rows.
        offsets: int64 [track + 1]; track i has the rows offsets[i]:offsets[i + 1].
        frame_index: int32 [row], 1-based.
        time_s: float64 [row], NaN where the video has no such frame.
        streams: by name; ``visual`` and ``audio`` are always there.
        va: float32 [row, 2], 0 where not labelled.
        labelled: bool [row].
        encoders: by stream, the encoder of its features.
        recordings: of each track, `Track.recording`; empty: as the ids say.
    """

    name: str
    track_ids: tuple[str, ...]
    offsets: NDArray[np.int64]
    frame_index: NDArray[np.int32]
    time_s: NDArray[np.float64]
    streams: Mapping[str, StreamRows]
    va: NDArray[np.float32]
    labelled: NDArray[np.bool_]
    encoders: dict[str, str]
    recordings: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)

    @property
    def raw_videos(self) -> tuple[str, ...]:
        """What each track was cut from: tracks of one video are no independent evidence."""
        return self.recordings or tuple(raw_video(track) for track in self.track_ids)

    @property
    def num_tracks(self) -> int:
        """Tracks."""
        return len(self.track_ids)

    @property
    def num_frames(self) -> int:
        """Rows of all tracks."""
        return len(self.frame_index)

    @property
    def dims(self) -> dict[str, int]:
        """Length of one feature, by stream."""
        return {name: stream.dim for name, stream in self.streams.items()}

    @property
    def feature_bytes(self) -> int:
        """Bytes of the features of all streams."""
        return sum(stream.feature.nbytes for stream in self.streams.values())

    def with_absent(self, dims: Mapping[str, int]) -> Split:
        """The same with further streams, which no frame has."""
        new = {name: StreamRows.absent(self.num_frames, dim) for name, dim in dims.items() if name not in self.streams}
        return dataclasses.replace(self, streams={**self.streams, **new})

    def track(self, index: int) -> slice:
        """Rows of a track."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))


class Allocate(Protocol):
    """Makes the array of a column: zeros, in memory or in a file."""

    def __call__(self, column: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]: ...


def in_memory(column: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Zeros whose pages the system allocates as they are written."""
    return np.zeros(shape, dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class SplitPlan:
    """A split before its features are read: how large it is, and where each track goes.

    Args:
        store: holds the features.
        tracks: in the order of the rows.
        fingerprints: by stream; ``visual`` and ``audio`` are among them.
        name: train, validation or test.
        offsets: int64 [track + 1].
        labels: of each track; None without an annotation.
        dims: length of one feature, by stream.
        contents: by stream, the digest of what each track was encoded or imported from; empty where not recorded.
    """

    store: FeatureStore
    tracks: tuple[Track, ...]
    fingerprints: Mapping[str, str]
    name: str
    offsets: NDArray[np.int64]
    labels: tuple[Annotation | None, ...]
    dims: dict[str, int]
    contents: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)

    @property
    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Type and shape of every column of the split."""
        rows = int(self.offsets[-1])
        columns: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
            "frame_index": (np.dtype(np.int32), (rows,)),
            "time_s": (np.dtype(np.float64), (rows,)),
        }
        for stream, dim in self.dims.items():
            columns[f"{stream}.feature"] = (np.dtype(np.float16), (rows, dim))
            columns[f"{stream}.present"] = (np.dtype(np.bool_), (rows,))
        return columns | {"va": (np.dtype(np.float32), (rows, 2)), "labelled": (np.dtype(np.bool_), (rows,))}

    @property
    def size_bytes(self) -> int:
        """Bytes of all columns."""
        return sum(dtype.itemsize * math.prod(shape) for dtype, shape in self.columns.values())

    def digest(self) -> str:
        """16 hexadecimal digits over what the split's arrays depend on: tracks, contents, labels, fingerprints."""
        digest = hashlib.sha256(
            repr([self.name, sorted(self.fingerprints.items()), sorted(self.dims.items())]).encode()
        )
        for track, labels, stop in zip(self.tracks, self.labels, self.offsets[1:], strict=True):
            digest.update(f"{track.id}\0{stop}\0{labels is None}\n".encode())
            digest.update(repr([self.contents.get(name, {}).get(track.id) for name in sorted(self.dims)]).encode())
            if labels is not None:
                digest.update(np.ascontiguousarray(labels.va).data)
                digest.update(labels.valid.data)
        return digest.hexdigest()[:16]

    def fill(self, allocate: Allocate = in_memory) -> Split:
        """Read the features track by track into the arrays that `allocate` gives: no second copy of the split."""
        columns = {name: allocate(name, *kind) for name, kind in self.columns.items()}
        specs = {name: self.store.read_spec(name, print_) for name, print_ in self.fingerprints.items()}
        for track, labels, rows in zip(self.tracks, self.labels, itertools.pairwise(self.offsets), strict=True):
            own = {name: column[slice(*rows)] for name, column in columns.items()}
            _write_frames(self._visual(track, specs["visual"].get("stream", {})), own)
            for stream, spec in specs.items():
                if stream != "visual":
                    self._write_stream(track, stream, spec, own)
            if labels is not None:
                own["va"][:] = labels.va
                own["labelled"][:] = labels.valid
        encoders = {stream: self._encoder(stream, spec) for stream, spec in specs.items()}
        pa.default_memory_pool().release_unused()  # what reading a track took
        values, streams = gather_columns(columns)
        names, recordings = (tuple(getattr(track, name) for track in self.tracks) for name in ("id", "recording"))
        arguments: dict[str, Any] = {**values, "streams": streams, "encoders": encoders, "recordings": recordings}
        return Split(self.name, names, self.offsets, **arguments)

    def _visual(self, track: Track, settings: Mapping[str, Any]) -> FeatureTable:
        visual, rate_hz = (
            self.store.read("visual", self.fingerprints["visual"], track.id),
            settings.get("frame_rate_hz"),
        )
        return visual if rate_hz is None else fill_between(visual, rate_hz, causal=bool(settings.get("causal")))

    def _write_stream(
        self, track: Track, stream: str, spec: Mapping[str, Any], own: Mapping[str, NDArray[Any]]
    ) -> None:
        """A track that an imported stream lacks is absent from it, as are frames."""
        fingerprint, settings = self.fingerprints[stream], spec.get("stream", {})
        if "imported" in spec and not self.store.has(stream, fingerprint, track.id):
            return
        table, feature, present = (
            self.store.read(stream, fingerprint, track.id),
            own[f"{stream}.feature"],
            own[f"{stream}.present"],
        )
        if settings.get("clock") == FRAMES:
            _place(table, feature, present)
        else:
            interpolate_into(table, own["time_s"], feature, present, hold=bool(settings.get("causal")))

    def _encoder(self, stream: str, spec: Mapping[str, Any]) -> str:
        if "imported" in spec:
            return str(spec["imported"])
        metadata = self.store.read_metadata(stream, self.fingerprints[stream], self.tracks[0].id)
        return str(metadata.get("encoder", "unknown"))


def gather_columns(columns: Mapping[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], dict[str, StreamRows]]:
    """The columns of a plan as the arguments of a `Split`: those of the frames by name, and the streams."""
    names = [name.removesuffix(".feature") for name in columns if name.endswith(".feature")]
    streams = {name: StreamRows(columns[f"{name}.feature"], columns[f"{name}.present"]) for name in names}
    return {name: column for name, column in columns.items() if "." not in name}, streams


def plan_split(
    store: FeatureStore, tracks: Sequence[Track], *, fingerprints: Mapping[str, str], name: str
) -> SplitPlan:
    """Read the labels, but only the sizes of the features. Raises as ``load_split`` does."""
    if not tracks:
        raise ValueError(f"split {name!r} has no track")
    visual = fingerprints["visual"]
    labels = tuple(
        read_annotation(track.annotation, functools.partial(store.frame_times, "visual", visual, track.id))
        if track.annotation
        else None
        for track in tracks
    )
    lengths = [
        store.extent("visual", visual, track.id)[0] if own is None else own.num_frames
        for track, own in zip(tracks, labels, strict=True)
    ]
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    dims = {stream: _dim(store, stream, print_, tracks[0]) for stream, print_ in fingerprints.items()}
    contents = {
        stream: {track: record.source.digest for track, record in load_sources(store, stream, print_).items()}
        for stream, print_ in fingerprints.items()
    }
    return SplitPlan(store, tuple(tracks), dict(fingerprints), name, offsets, labels, dims, contents)


def load_split(store: FeatureStore, tracks: Sequence[Track], *, fingerprints: Mapping[str, str], name: str) -> Split:
    """Read a split's features and join its labels by frame index.

    A track has the frames 1..n of its annotation; without one, those of its visual features. Frames that a stream lacks
    are not present. Audio features are interpolated linearly to the frames' times; a frame has sound when the hops on
    both sides of it do. Visual features that were encoded at a ``frame_rate_hz`` are interpolated in the same way.
    Imported streams are joined by frame index or as audio is, and absent from tracks that were not imported.
    `fingerprints` are those of every stream to read, visual and audio among them. Raises StoreError, AnnotationError;
    ValueError without any track.
    """
    return plan_split(store, tracks, fingerprints=fingerprints, name=name).fill()


def _dim(store: FeatureStore, stream: str, fingerprint: str, first: Track) -> int:
    spec = store.read_spec(stream, fingerprint)
    return int(spec["stream"]["dim"]) if "imported" in spec else store.extent(stream, fingerprint, first.id)[1]


def _write_frames(visual: FeatureTable, own: Mapping[str, NDArray[Any]]) -> None:
    """The frames of a track with their times, and its visual stream, into columns of zeros."""
    num_frames = len(own["frame_index"])
    own["frame_index"][:] = np.arange(1, num_frames + 1)
    here = _place(visual, own["visual.feature"], own["visual.present"])
    time_s = np.full(num_frames, np.nan)
    time_s[visual.frame_index[:here] - 1] = visual.time_s[:here]
    own["time_s"][:] = time_s


def _place(table: FeatureTable, feature: NDArray[np.float16], present: NDArray[np.bool_]) -> int:
    """Rows of frames into their places; returns how many of them the track has."""
    here = int(np.searchsorted(table.frame_index, len(feature), side="right"))
    place = table.frame_index[:here] - 1
    present[place] = table.present[:here]
    feature[place] = table.feature[:here]
    return here
