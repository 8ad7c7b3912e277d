"""What an evaluation finds: scores of a model, other predictions of the same frames compared with its own, and where
it is furthest from the annotation."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from affectgrid.analysis.bootstrap import Difference, compare
from affectgrid.data.catalog import Track
from affectgrid.data.decoding import MediaReader
from affectgrid.data.splits.resident import Split
from affectgrid.errors import MediaError, ModelError, Problem
from affectgrid.metrics import ccc_from_moments
from affectgrid.storage import Staged
from affectgrid.training.inference.ensemble import Ensemble
from affectgrid.training.inference.groups import GroupScore, score_groups
from affectgrid.training.inference.predict import Predictions, Scores, moments_by_video
from affectgrid.training.inference.smoothing import SmoothingCurve

_log = logging.getLogger(__name__)
_NUM_WORST, _APART_S = 6, 1.0
TOGETHER = "all together"  # the name of several models' weighted mean
CLEAN = "as it is"  # that of input to which nothing was done


@dataclasses.dataclass(frozen=True)
class Compared:
    """One of several predictions of the same frames.

    Args:
        name: address of a model, or what was done to its input.
        ccc_valence, ccc_arousal, p: over all labelled frames together.
        difference: of P from the first one's; None for the first one.
    """

    name: str
    ccc_valence: float
    ccc_arousal: float
    p: float
    difference: Difference | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class WorstFrame:
    """A frame of the worst track.

    Args:
        track: its id.
        frame_index: 1-based.
        time_s: NaN where the video has no such frame.
        true, predicted: (valence, arousal).
        picture: of the video, or the face's crop where there is no video.
    """

    track: str
    frame_index: int
    time_s: float
    true: tuple[float, float]
    predicted: tuple[float, float]
    picture: UInt8[np.ndarray, "height width 3"]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What came out.

    Args:
        ensemble: the models, with the weights that were used.
        split: the split with its labels.
        predictions: of the ensemble.
        scores: of the predictions.
        member_p: P of each model alone, where there are several.
        curve: P on validation over the half-width of the filter, where that was chosen.
        compared: the ensemble, each of several members alone, and other models; empty where there is nothing else.
        tracks: scores within each track.
        people: scores within each person, where it is known who is in which track.
        robustness: the ensemble on the input as it is, and on impaired input; empty where that was not asked for.
        worst: frames of the track with the lowest P of its own; empty where its pictures are not at hand.
    """

    ensemble: Ensemble
    split: Split
    predictions: Predictions
    scores: Scores
    member_p: tuple[float, ...] = ()
    curve: SmoothingCurve | None = None
    compared: tuple[Compared, ...] = ()
    tracks: tuple[GroupScore, ...] = ()
    people: tuple[GroupScore, ...] = ()
    robustness: tuple[Compared, ...] = ()
    worst: tuple[WorstFrame, ...] = ()


def compare_predictions(named: Sequence[tuple[str, Predictions]], split: Split) -> tuple[Compared, ...]:
    """Each one's scores, and its P minus the first one's with an interval over raw videos (`bootstrap.compare`).

    Corrected for as many comparisons as there are others. The interval is of these predictions: it knows nothing of
    what another seed of training would have given. Raises ModelError (CMP-ROWS) for predictions of other frames.
    """
    (reference, first), *others = named
    for name, other in others:
        if other.track_ids != first.track_ids or not torch.equal(other.offsets, first.offsets):
            hint = "see which tracks encode put in quarantine, or name the tracks that both have with --tracks"
            expected = f"the tracks and frames of {reference}"
            raise ModelError(Problem("CMP-ROWS", where=name, found="other frames", expected=expected, hint=hint))
    by_video = [moments_by_video(own, split) for _, own in named]
    found: list[Compared] = []
    for (name, _), moments in zip(named, by_video, strict=True):
        valence, arousal = ccc_from_moments(moments.sum(0)).tolist()
        difference = compare(moments[None], by_video[0][None], num_comparisons=len(others)) if found else None
        found.append(Compared(name, valence, arousal, (valence + arousal) / 2, difference))
    return tuple(found)


def worst_frames(predictions: Predictions, split: Split, media: Mapping[str, Track]) -> tuple[WorstFrame, ...]:
    """Frames of the track with the lowest P of its own that are furthest from their annotation, in their order.

    They are at least `_APART_S` apart: the neighbours of a bad frame are as bad. None of a track whose files are not on
    this machine, or cannot be read, and where no track has a score.

    Args:
        predictions: of the split.
        media: tracks with their files, by id.
    """
    scored = [one for one in score_groups(predictions, split) if not math.isnan(one.p)]
    track = media.get(min(scored, key=lambda one: one.p).name) if scored else None
    if track is None or not _at_hand(track):
        return ()
    begin = split.track(split.track_ids.index(track.id)).start
    try:
        with MediaReader("frame", deep=False) as reader:
            return tuple(
                WorstFrame(
                    track.id,
                    int(split.frame_index[row]),
                    float(split.time_s[row]),
                    _pair(split.va[row]),
                    _pair(predictions.va[row]),
                    picture,
                )
                for row in _furthest(predictions, split, split.track_ids.index(track.id))
                if (picture := reader.picture(track, row - begin)) is not None
            )
    except (MediaError, OSError) as error:
        _log.warning("no pictures of the worst frames: %s", error)
        return ()


def _furthest(predictions: Predictions, split: Split, number: int) -> list[int]:
    """Rows of a track."""
    rows = split.track(number)
    error = np.square(predictions.va[rows].numpy() - split.va[rows]).sum(1)
    timed = split.labelled[rows] & np.isfinite(split.time_s[rows])
    picked: list[int] = []
    for place in np.argsort(-error, kind="stable"):
        row = rows.start + int(place)
        if timed[place] and all(abs(split.time_s[row] - split.time_s[other]) >= _APART_S for other in picked):
            picked.append(row)
    return sorted(picked[:_NUM_WORST])


def _at_hand(track: Track) -> bool:
    """Whether its video, or its crops without one, are on a disk of this machine, not to be fetched first."""
    path = track.video or track.crops
    return path is not None and Staged.parse(path) is None and path.exists()


def _pair(va: Any) -> tuple[float, float]:
    return float(va[0]), float(va[1])
