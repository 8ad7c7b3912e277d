"""What is known of a track over time: its labels, what was predicted, and where its face is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from affectgrid.data.annotations import read_annotation
from affectgrid.data.catalog import Track
from affectgrid.data.splits.resident import Split
from affectgrid.errors import CatalogError, Problem
from affectgrid.media.video import probe_video
from affectgrid.storage import Storage, staged, write_atomic

_BOX = ("face_left", "face_top", "face_right", "face_bottom")


@dataclasses.dataclass(frozen=True, eq=False)
class Course:
    """One track. What is not known is NaN.

    Args:
        track: its name.
        video: on this machine.
        time_s: of every frame, from the video's start.
        labels: annotated valence and arousal.
        predicted: a model's.
        box: left, top, right and bottom of the face, in pixels.
    """

    track: str
    video: Path
    time_s: Float[np.ndarray, " frame"]
    labels: Float[np.ndarray, "frame 2"]
    predicted: Float[np.ndarray, "frame 2"]
    box: Float[np.ndarray, "frame 4"]


def read_courses(
    tracks: Sequence[Track], predictions: Storage | None, *, labelled: bool = True, most: int | None = None
) -> list[Course]:
    """The first `most` tracks that have a video and something to show: rows in `predictions`, or labels.

    `predictions` is a predictions.parquet; without `labelled`, labels alone are not enough.

    Raises CatalogError (LOOK-NONE) where there is none; MediaError, AnnotationError.
    """
    predicted = {} if predictions is None else _read_predictions(predictions)
    shown = [track for track in tracks if track.video and (track.id in predicted or (labelled and track.annotation))]
    if not shown:
        where = "the data set" if predictions is None else predictions.address
        found, expected = f"nothing of {len(tracks)} tracks", "labels or predictions of a video"
        hint = "predict them first, or name others with --data, --study or --tracks"
        raise CatalogError(Problem("LOOK-NONE", where=where, found=found, expected=expected, hint=hint))
    return [_course(track, predicted.get(track.id, {})) for track in shown[:most]]


def _read_predictions(place: Storage) -> dict[str, dict[str, np.ndarray]]:
    """Columns by track."""
    try:
        table = pq.read_table(place.fs.open_input_file(place.at()))
    except FileNotFoundError:
        hint = "predict with jobs/predict.py, or name a file with --predictions"
        raise CatalogError(
            Problem("LOOK-NONE", where=place.address, found="no file", expected="predictions.parquet", hint=hint)
        ) from None
    columns = {name: table[name].to_numpy() for name in table.column_names}
    tracks = columns.pop("track")
    return {name: {key: column[tracks == name] for key, column in columns.items()} for name in dict.fromkeys(tracks)}


def _course(track: Track, columns: dict[str, np.ndarray]) -> Course:
    assert track.video is not None
    with staged(track.video) as video:
        info = probe_video(video)
        time_s = info.frame_times_s
        labels, predicted, box = (np.full((len(time_s), width), np.nan, np.float32) for width in (2, 2, 4))
        if track.annotation:
            own = read_annotation(track.annotation, lambda: time_s)
            here = min(len(time_s), own.num_frames)
            labels[:here] = np.where(own.valid[:here, None], own.va[:here], np.nan)
        if columns:
            rows = columns["frame"] <= len(time_s)
            place = columns["frame"][rows] - 1
            predicted[place] = np.stack([columns["valence"], columns["arousal"]], 1)[rows]
            if _BOX[0] in columns:
                box[place] = np.stack([columns[name] for name in _BOX], 1)[rows]
        return Course(track.id, video, time_s, labels, predicted, box)


def write_rows(path: Path, split: Split, va: Float[np.ndarray, "row 2"]) -> Path:
    """Predictions of a split as ``read_courses`` takes them: predictions.parquet."""
    names = np.repeat(np.array(split.track_ids), np.diff(split.offsets))
    columns = {"frame": split.frame_index, "time_s": split.time_s, "valence": va[:, 0], "arousal": va[:, 1]}
    content = pa.BufferOutputStream()
    pq.write_table(pa.table({"track": names, **columns}), content)
    return write_atomic(path, content.getvalue().to_pybytes())
