"""Scores of groups of tracks: each track by itself, or everything that shows one person."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from affectgrid.data.splits.resident import Split
from affectgrid.metrics import ccc_from_moments
from affectgrid.training.inference.predict import Predictions, moments_by


@dataclasses.dataclass(frozen=True)
class GroupScore:
    """CCC and error over the labelled frames of one group together. Without such a frame all are NaN.

    CCC compares with the variation within the group: a mean over groups is not the CCC of all frames.

    Args:
        name: of the track, or of the person.
        num_tracks: that the group has.
        num_frames: labelled ones.
        ccc_valence, ccc_arousal: 0 for a constant series.
        p: their mean.
        rmse: root of the mean squared error, over frames and both axes.
    """

    name: str
    num_tracks: int
    num_frames: int
    ccc_valence: float
    ccc_arousal: float
    p: float
    rmse: float


def score_groups(predictions: Predictions, split: Split, group_of: Mapping[str, str] | None = None) -> list[GroupScore]:
    """A score for each group, in the order in which the groups first appear.

    Args:
        predictions: of the split.
        group_of: group by track; tracks that it lacks are left out. None: each track is a group.
    """
    groups = [track if group_of is None else group_of.get(track, "") for track in split.track_ids]
    sizes, moments = Counter(groups), moments_by(predictions, split, groups)
    return [_score(name, sizes[name], own) for name, own in zip(sizes, moments, strict=True) if name]


def _score(name: str, num_tracks: int, moments: Float[Tensor, "stat 2"]) -> GroupScore:
    valence, arousal = ccc_from_moments(moments).tolist()
    count, _, _, sum_pp, sum_tt, sum_pt = (float(row.mean()) for row in moments)
    squared = max(0.0, sum_pp + sum_tt - 2 * sum_pt)  # of two equal series it may come out a little below 0
    rmse = math.sqrt(squared / count) if count else math.nan
    return GroupScore(name, num_tracks, int(count), valence, arousal, (valence + arousal) / 2, rmse)
