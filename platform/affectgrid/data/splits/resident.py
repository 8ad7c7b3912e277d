"""A split in memory: one contiguous array per stream, so that a window is index arithmetic."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affectgrid.data.annotations import Annotation, read_annotation
from affectgrid.data.catalog import Track
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.table import FeatureTable
from affectgrid.media.sampling import nearest_frames

_BLOCK_ROWS = 256
_CLOCK_S = 1e-9  # times of frames and of hops are sums of their own


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Frames of every track, one after another; plain arrays, which Ray maps without a copy.

    Args:
        name: train, validation or test.
        track_ids: in the order of the rows.
        offsets: int64 [track + 1]; track i has the rows offsets[i]:offsets[i + 1].
        frame_index: int32 [row], 1-based.
        time_s: float64 [row], NaN where the video has no such frame.
        visual, audio: float16 [row, dim], 0 where not present.
        visual_present, audio_present: bool [row].
        va: float32 [row, 2], 0 where not labelled.
        labelled: bool [row].
        encoders: by stream, the encoder of its features.
    """

    name: str
    track_ids: tuple[str, ...]
    offsets: NDArray[np.int64]
    frame_index: NDArray[np.int32]
    time_s: NDArray[np.float64]
    visual: NDArray[np.float16]
    visual_present: NDArray[np.bool_]
    audio: NDArray[np.float16]
    audio_present: NDArray[np.bool_]
    va: NDArray[np.float32]
    labelled: NDArray[np.bool_]
    encoders: dict[str, str]

    @property
    def num_tracks(self) -> int:
        """Tracks."""
        return len(self.track_ids)

    @property
    def num_frames(self) -> int:
        """Rows of all tracks."""
        return len(self.frame_index)

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
        visual_fp, audio_fp: fingerprints of the streams.
        name: train, validation or test.
        offsets: int64 [track + 1].
        labels: of each track; None without an annotation.
        dims: length of one feature, by stream.
    """

    store: FeatureStore
    tracks: tuple[Track, ...]
    visual_fp: str
    audio_fp: str
    name: str
    offsets: NDArray[np.int64]
    labels: tuple[Annotation | None, ...]
    dims: dict[str, int]

    @property
    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Type and shape of every column of the split."""
        rows = int(self.offsets[-1])
        return {
            "frame_index": (np.dtype(np.int32), (rows,)),
            "time_s": (np.dtype(np.float64), (rows,)),
            "visual": (np.dtype(np.float16), (rows, self.dims["visual"])),
            "visual_present": (np.dtype(np.bool_), (rows,)),
            "audio": (np.dtype(np.float16), (rows, self.dims["audio"])),
            "audio_present": (np.dtype(np.bool_), (rows,)),
            "va": (np.dtype(np.float32), (rows, 2)),
            "labelled": (np.dtype(np.bool_), (rows,)),
        }

    @property
    def size_bytes(self) -> int:
        """Bytes of all columns."""
        return sum(dtype.itemsize * math.prod(shape) for dtype, shape in self.columns.values())

    def digest(self) -> str:
        """16 hexadecimal digits over what the split's arrays depend on: tracks, labels, fingerprints."""
        digest = hashlib.sha256(repr([self.name, self.visual_fp, self.audio_fp, sorted(self.dims.items())]).encode())
        for track, labels, stop in zip(self.tracks, self.labels, self.offsets[1:], strict=True):
            digest.update(f"{track.id}\0{stop}\0{labels is None}\n".encode())
            if labels is not None:
                digest.update(np.ascontiguousarray(labels.va).data)
                digest.update(labels.valid.data)
        return digest.hexdigest()[:16]

    def fill(self, allocate: Allocate = in_memory) -> Split:
        """Read the features track by track into the arrays that `allocate` gives: no second copy of the split."""
        columns = {name: allocate(name, *kind) for name, kind in self.columns.items()}
        seen, heard = (
            self.store.read_spec(*stream).get("stream", {})
            for stream in (("visual", self.visual_fp), ("audio", self.audio_fp))
        )
        rate_hz, hold = seen.get("frame_rate_hz"), bool(heard.get("causal"))
        for track, labels, rows in zip(self.tracks, self.labels, itertools.pairwise(self.offsets), strict=True):
            visual = self.store.read("visual", self.visual_fp, track.id)
            if rate_hz is not None:
                visual = fill_between(visual, rate_hz, causal=bool(seen.get("causal")))
            audio = self.store.read("audio", self.audio_fp, track.id)
            _join(visual, audio, labels, {name: column[slice(*rows)] for name, column in columns.items()}, hold=hold)
        encoders = {
            stream: str(self.store.read_metadata(stream, print_, self.tracks[0].id).get("encoder", "unknown"))
            for stream, print_ in (("visual", self.visual_fp), ("audio", self.audio_fp))
        }
        pa.default_memory_pool().release_unused()  # what reading a track took
        names = tuple(track.id for track in self.tracks)
        return Split(name=self.name, track_ids=names, offsets=self.offsets, encoders=encoders, **columns)


def plan_split(store: FeatureStore, tracks: Sequence[Track], *, visual_fp: str, audio_fp: str, name: str) -> SplitPlan:
    """Read the labels, but only the sizes of the features. Raises as ``load_split`` does."""
    if not tracks:
        raise ValueError(f"split {name!r} has no track")
    labels = tuple(read_annotation(track.annotation) if track.annotation else None for track in tracks)
    lengths = [
        store.extent("visual", visual_fp, track.id)[0] if own is None else own.num_frames
        for track, own in zip(tracks, labels, strict=True)
    ]
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    prints = {"visual": visual_fp, "audio": audio_fp}
    dims = {stream: store.extent(stream, print_, tracks[0].id)[1] for stream, print_ in prints.items()}
    return SplitPlan(store, tuple(tracks), visual_fp, audio_fp, name, offsets, labels, dims)


def load_split(store: FeatureStore, tracks: Sequence[Track], *, visual_fp: str, audio_fp: str, name: str) -> Split:
    """Read a split's features and join its labels by frame index.

    A track has the frames 1..n of its annotation; without one, those of its visual features. Frames that a stream lacks
    are not present. Audio features are interpolated linearly to the frames' times; a frame has sound when the hops on
    both sides of it do. Visual features that were encoded at a ``frame_rate_hz`` are interpolated in the same way.
    Raises StoreError, AnnotationError; ValueError without any track.
    """
    return plan_split(store, tracks, visual_fp=visual_fp, audio_fp=audio_fp, name=name).fill()


def _join(
    visual: FeatureTable,
    audio: FeatureTable,
    labels: Annotation | None,
    rows: Mapping[str, NDArray[Any]],
    *,
    hold: bool,
) -> None:
    """Write one track into its rows of every column, which are zeros. `hold`: see `interpolate`."""
    num_frames = len(rows["frame_index"])
    rows["frame_index"][:] = np.arange(1, num_frames + 1)
    here = int(np.searchsorted(visual.frame_index, num_frames, side="right"))
    place = visual.frame_index[:here] - 1
    time_s = np.full(num_frames, np.nan)
    time_s[place] = visual.time_s[:here]
    rows["time_s"][:] = time_s
    rows["visual_present"][place] = visual.present[:here]
    rows["visual"][place] = visual.feature[:here]
    _interpolate_into(audio, time_s, rows["audio"], rows["audio_present"], hold=hold)
    if labels is not None:
        rows["va"][:] = labels.va
        rows["labelled"][:] = labels.valid


def fill_between(visual: FeatureTable, rate_hz: float, *, causal: bool = False) -> FeatureTable:
    """Interpolate the frames that were not encoded: linear in time between those at `rate_hz` on both sides.

    If `causal` each has the features of the last one before it, and is present where that is. Otherwise present where
    both are: a face that was not found leaves a gap as wide as the grid's spacing, not one frame.
    """
    timed = np.isfinite(visual.time_s)
    if not timed.any():
        return visual  # without a clock there is no grid, and every frame was encoded
    chosen = np.flatnonzero(timed)[nearest_frames(visual.time_s[timed], rate_hz, causal=causal)]
    columns = (field.name for field in dataclasses.fields(FeatureTable))
    grid = FeatureTable(*(getattr(visual, name)[chosen] for name in columns))
    feature, present = interpolate(grid, visual.time_s, hold=causal)
    return dataclasses.replace(visual, feature=feature, present=present)


def interpolate(
    audio: FeatureTable, time_s: NDArray[np.float64], *, hold: bool = False
) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Features at the given times, linear between hops: float16 [time, dim], 0 where not present, and bool [time].

    Present where the hops on both sides are (at a hop: where that one is), within the span of the hops; never at NaN.
    With `hold` each time has the last hop at or before it, and those after the last hop have that.
    """
    feature, heard = np.zeros((len(time_s), audio.dim), np.float16), np.zeros(len(time_s), np.bool_)
    _interpolate_into(audio, time_s, feature, heard, hold=hold)
    return feature, heard


def _interpolate_into(
    audio: FeatureTable,
    time_s: NDArray[np.float64],
    feature: NDArray[np.float16],
    heard: NDArray[np.bool_],
    *,
    hold: bool,
) -> None:
    """As ``interpolate``, into arrays of zeros; in blocks, since the arithmetic is in float64."""
    if not audio.present.any():
        return
    end_s = np.inf if hold else audio.time_s[-1]
    inside = np.flatnonzero((time_s >= audio.time_s[0]) & (time_s <= end_s))
    if not len(inside):
        return
    for block in np.split(inside, range(_BLOCK_ROWS, len(inside), _BLOCK_ROWS)):
        times = time_s[block]
        if hold:
            left = right = np.searchsorted(audio.time_s, times + _CLOCK_S, side="right") - 1
        else:
            right = np.searchsorted(audio.time_s, times)
            left = np.where(audio.time_s[right] == times, right, right - 1)
        gap_s = audio.time_s[right] - audio.time_s[left]
        weight = np.divide(times - audio.time_s[left], gap_s, out=np.zeros(len(times)), where=gap_s > 0)[:, None]
        both = audio.present[left] & audio.present[right]
        heard[block] = both
        first = int(left.min())
        hops = audio.feature[first : int(right.max()) + 1].astype(np.float64)  # once per hop, not once per frame
        mixed = hops[left - first] * (1 - weight)
        mixed += hops[right - first] * weight
        mixed[~both] = 0
        feature[block] = mixed
