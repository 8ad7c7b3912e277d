"""What an evaluation finds: scores of a model, and other predictions of the same frames compared with its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from affectgrid.analysis.bootstrap import Difference, compare
from affectgrid.data.splits.resident import Split
from affectgrid.errors import ModelError, Problem
from affectgrid.metrics import ccc_from_moments
from affectgrid.training.inference.ensemble import Ensemble
from affectgrid.training.inference.groups import GroupScore
from affectgrid.training.inference.predict import Predictions, Scores, moments_by_video
from affectgrid.training.inference.smoothing import SmoothingCurve

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
