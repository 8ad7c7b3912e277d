"""A split in memory: one contiguous array per stream; a window of it is index arithmetic."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affectgrid.data.annotations import Annotation, read_annotation
from affectgrid.data.catalog import Track
from affectgrid.data.store import FeatureStore, FeatureTable
from affectgrid.media.sampling import nearest_frames


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
        encoders: by stream, what the features were made with.
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


def load_split(store: FeatureStore, tracks: Sequence[Track], *, visual_fp: str, audio_fp: str, name: str) -> Split:
    """Read a split's features and join its labels by frame index.

    A track has the frames 1..n of its annotation; without one, those of its visual features. Frames that a stream does
    not have are not present. Audio features are interpolated linearly to the frames' times; a frame has sound when the
    hops on both sides of it do. So are visual features that were encoded at a ``frame_rate_hz``. Raises StoreError,
    AnnotationError; ValueError without any track.
    """
    if not tracks:
        raise ValueError(f"split {name!r} has no track")
    encoders: dict[str, str] = {}
    rate_hz = store.read_spec("visual", visual_fp).get("stream", {}).get("frame_rate_hz")
    rows: list[dict[str, NDArray[np.generic]]] = []
    for track in tracks:
        visual = store.read("visual", visual_fp, track.id)
        visual = visual if rate_hz is None else fill_between(visual, rate_hz)
        audio = store.read("audio", audio_fp, track.id)
        rows.append(_join(visual, audio, read_annotation(track.annotation) if track.annotation else None))
    for stream, fingerprint in (("visual", visual_fp), ("audio", audio_fp)):
        encoders[stream] = str(store.read_metadata(stream, fingerprint, tracks[0].id).get("encoder", "unknown"))
    offsets = np.cumsum([0, *(len(row["frame_index"]) for row in rows)], dtype=np.int64)
    columns: dict[str, NDArray[np.generic]] = {}
    for column in list(rows[0]):
        columns[column] = np.concatenate([row[column] for row in rows])
        for row in rows:
            del row[column]  # two copies of one column at a time, not of all
    return Split(
        name=name,
        track_ids=tuple(track.id for track in tracks),
        offsets=offsets,
        encoders=encoders,
        **columns,  # type: ignore[arg-type]
    )


def _join(visual: FeatureTable, audio: FeatureTable, labels: Annotation | None) -> dict[str, NDArray[np.generic]]:
    if labels is None:
        num_frames = int(visual.frame_index[-1]) if len(visual.frame_index) else 0
        labels = Annotation(np.zeros((num_frames, 2), np.float32), np.zeros(num_frames, np.bool_))
    num_frames = labels.num_frames
    here = visual.frame_index <= num_frames
    place = visual.frame_index[here] - 1
    time_s = np.full(num_frames, np.nan)
    time_s[place] = visual.time_s[here]
    present = np.zeros(num_frames, np.bool_)
    present[place] = visual.present[here]
    feature = np.zeros((num_frames, visual.dim), np.float16)
    feature[place] = visual.feature[here]
    sound, heard = interpolate(audio, time_s)
    return {
        "frame_index": np.arange(1, num_frames + 1, dtype=np.int32),
        "time_s": time_s,
        "visual": feature,
        "visual_present": present,
        "audio": sound,
        "audio_present": heard,
        "va": labels.va,
        "labelled": labels.valid,
    }


def fill_between(visual: FeatureTable, rate_hz: float) -> FeatureTable:
    """Interpolate the frames that an encoder was spared: linear in time between those at `rate_hz` on both sides.

    Present where both are: a face that was not found leaves a gap as wide as the grid's, not one frame.
    """
    timed = np.isfinite(visual.time_s)
    if not timed.any():
        return visual  # without a clock there is no grid, and every frame was encoded
    chosen = np.flatnonzero(timed)[nearest_frames(visual.time_s[timed], rate_hz)]
    columns = (field.name for field in dataclasses.fields(FeatureTable))
    feature, present = interpolate(FeatureTable(*(getattr(visual, name)[chosen] for name in columns)), visual.time_s)
    return dataclasses.replace(visual, feature=feature, present=present)


def interpolate(audio: FeatureTable, time_s: NDArray[np.float64]) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Features at the given times, linear between hops: float16 [time, dim], 0 where not present, and bool [time].

    Present where the hops on both sides are (at a hop: that one), within the span of the hops; a NaN time is not.
    """
    feature, heard = np.zeros((len(time_s), audio.dim), np.float16), np.zeros(len(time_s), np.bool_)
    if not audio.present.any():
        return feature, heard
    inside = np.flatnonzero((time_s >= audio.time_s[0]) & (time_s <= audio.time_s[-1]))
    times = time_s[inside]
    right = np.searchsorted(audio.time_s, times)
    left = np.where(audio.time_s[right] == times, right, right - 1)
    gap_s = audio.time_s[right] - audio.time_s[left]
    weight = np.divide(times - audio.time_s[left], gap_s, out=np.zeros(len(times)), where=gap_s > 0)[:, None]
    heard[inside] = audio.present[left] & audio.present[right]
    mixed = audio.feature[left] * (1 - weight) + audio.feature[right] * weight
    feature[inside] = np.where(heard[inside, None], mixed, 0)
    return feature, heard
