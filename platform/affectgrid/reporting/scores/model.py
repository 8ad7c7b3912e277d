"""A model's scores and predictions: tables, lines on the terminal, pictures and files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float

from affectgrid import storage
from affectgrid.data.export import Fill, Filled, write_track
from affectgrid.data.splits.resident import Split
from affectgrid.regions import RegionGrid
from affectgrid.reporting import figures, html
from affectgrid.reporting.tables import Table
from affectgrid.training.inference.details import track_columns
from affectgrid.training.inference.ensemble import Ensemble
from affectgrid.training.inference.predict import Predictions, Scores
from affectgrid.training.inference.smoothing import SmoothingCurve


def score_table(scores: Scores, note: str = "") -> Table:
    """CCC of valence, of arousal and P, with 95 % bootstrap intervals over raw videos."""
    intervals = {"CCC-V": scores.intervals.valence, "CCC-A": scores.intervals.arousal, "P": scores.intervals.p}
    rows = [
        {"score": name, "value": f"{i.estimate:.3f}", "low": f"{i.low:.3f}", "high": f"{i.high:.3f}"}
        for name, i in intervals.items()
    ]
    return Table.of("Scores with 95 % bootstrap intervals over videos", rows, note=note)


def region_table(scores: Scores) -> Table:
    """Support and error by the region of the annotation."""
    rows = [
        {
            "region": region.name,
            "frames": str(region.support),
            "share": f"{region.share:.1%}",
            "MAE": _error(region.mae),
            "RMSE": _error(region.rmse),
        }
        for region in scores.regions
    ]
    return Table.of("Error by the region of the annotation", rows)


def ensemble_lines(ensemble: Ensemble, member_p: Sequence[float]) -> Iterator[str]:
    """The weight of each model and its P alone (`member_p`); nothing for a single model, which has none."""
    how = "fitted on validation" if ensemble.fitted else "even"
    for place, weight, p in zip(ensemble.places, ensemble.weights, member_p, strict=False):
        yield f"weights {weight[0]:.3f} {weight[1]:.3f} ({how}), P {p:.3f} alone: {place.address}"


def smoothing_lines(curve: SmoothingCurve | None) -> Iterator[str]:
    """CCC at every half-width, which was chosen on each axis, and P with both; nothing where none was."""
    if curve is None:
        return
    yield "half-width of smoothing: CCC of valence and of arousal on validation"
    best = ("  best of valence", "  best of arousal")
    for width, *ccc in zip(curve.half_widths, curve.valence, curve.arousal, strict=True):
        notes = "".join(note for note, chosen in zip(best, curve.chosen, strict=True) if chosen == width)
        yield f"  {width:5d}: {ccc[0]:.4f} {ccc[1]:.4f}{notes}"
    yield f"kept in the package: {curve.chosen[0]} and {curve.chosen[1]}, P {curve.p:.4f}"


def prediction_lines(
    address: str,
    num_tracks: int,
    num_frames: int,
    submission: str,
    filled: Sequence[Filled],
    note: str,
    lost: Mapping[str, str],
) -> Iterator[str]:
    """What was predicted and where it is; `lost` gives the reason for each missing track."""
    yield f"{num_tracks} tracks, {num_frames} frames: {address}/<track>.csv and .png, and predictions.parquet"
    if submission:
        yield f"the challenge's file: {submission}"
    if filled:
        frames = sum(one.last - one.first + 1 for one in filled)
        yield f"filled, as no video has them: {frames} frames of {len(filled)} tracks, listed in filled.csv beside it"
    if note:
        yield note
    yield from (f"not predicted: {track}: {reason}" for track, reason in lost.items())


def face_lines(faces: Mapping[str, int], lengths: Mapping[str, int]) -> Iterator[str]:
    """For each track that has frames without a face: in how many one was found."""
    for track, count in faces.items():
        if count < lengths[track]:
            yield f"{track}: face in {count} of {lengths[track]} frames"


def write_predictions(
    folder: Path,
    split: Split,
    va: Float[np.ndarray, "row 2"],
    found: Bool[np.ndarray, " row"] | None,
    details: Mapping[str, Float[np.ndarray, " row"]],
    fill: Fill | None,
) -> None:
    """``<track>.csv`` and ``<track>.png`` for each track, and ``predictions.parquet`` of all of them.

    Args:
        found: where a face was found; None where none was looked for.
        details: further columns.
        fill: what frames without a face are given; None: nothing.
    """
    tables = []
    for number, track in enumerate(split.track_ids):
        columns = track_columns(split, number, va, found, details, fill)
        index, time_s, valence, arousal, *_ = columns.values()
        own = np.stack([valence, arousal], 1)
        write_track(folder / f"{track}.csv", index, time_s, own, dict(list(columns.items())[4:]))
        face = None if found is None else found[split.track(number)]
        figures.save(figures.prediction(track, time_s, own, face), folder / f"{track}.png")
        tables.append(pa.table({"track": [track] * len(own), **columns}))
    content = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(tables), content)
    storage.write_atomic(folder / "predictions.parquet", content.getvalue().to_pybytes())


def absent_lines(without: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Tracks for which an imported stream was taken to be absent, by stream."""
    for stream, tracks in without.items():
        shown = ", ".join(tracks[:3])
        yield f"{stream}: not imported for {len(tracks)} tracks, such as {shown}; predicted as if it were absent"


def draw_predictions(
    folder: Path, scores: Scores, predictions: Predictions, split: Split, grid: RegionGrid
) -> list[html.Picture]:
    """Pictures in `folder` of the plane, and of the best, the median and the worst track over time."""
    plane = figures.plane(
        predictions.va.numpy(),
        split.va,
        split.labelled,
        grid.centres,
        scores={"valence": scores.ccc_valence, "arousal": scores.ccc_arousal},
    )
    traces = figures.traces(_telling_tracks(predictions, split, scores))
    return [
        figures.picture(
            plane,
            folder / "plane.png",
            "Annotated and predicted frames on the plane with its regions, and their agreement on each axis",
        ),
        figures.picture(
            traces,
            folder / "traces.png",
            "Annotated and predicted valence and arousal over time: the best, the median and the worst track",
        ),
    ]


def _telling_tracks(predictions: Predictions, split: Split, scores: Scores) -> list[figures.Trace]:
    """The tracks with the best, the median and the worst P of their own: neither picked nor flattering."""
    ranked = sorted((p, track) for track, p in scores.track_p.items() if not math.isnan(p))
    places = sorted({0, len(ranked) // 2, len(ranked) - 1}, reverse=True) if ranked else []
    return [_trace(predictions, split, *ranked[place]) for place in places]


def _trace(predictions: Predictions, split: Split, p: float, track: str) -> figures.Trace:
    rows = split.track(split.track_ids.index(track))
    return figures.Trace(
        f"{track} (P {p:.2f})",
        split.time_s[rows],
        split.va[rows],
        predictions.va[rows].numpy(),
        split.labelled[rows],
    )


def _error(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
