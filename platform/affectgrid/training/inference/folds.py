"""Every track scored by the model that has not seen it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from affectgrid.data.splits.resident import Split
from affectgrid.metrics import Metrics
from affectgrid.regions import RegionGrid
from affectgrid.storage import Storage
from affectgrid.training.checkpoint import mean_history
from affectgrid.training.inference.ensemble import Ensemble
from affectgrid.training.inference.predict import Predictions, Scores, evaluate
from affectgrid.training.inference.smoothing import SmoothingCurve


@dataclasses.dataclass(frozen=True)
class FoldedResult:
    """What cross-validation leaves.

    Args:
        place: of ``folds.json``, ``ensemble.json`` and ``out-of-fold/<track>.csv``.
        ensemble: the models of all folds, which count alike.
        fold_p: P of each on its own held-out tracks.
        scores: of every track's held-out predictions together.
        epoch_p: P of each epoch, as the mean over the folds.
        curve: CCC over the half-width of smoothing, where it was chosen.
    """

    place: Storage
    ensemble: Ensemble
    fold_p: tuple[float, ...]
    scores: Scores
    epoch_p: tuple[float, ...]
    curve: SmoothingCurve | None

    @property
    def epoch(self) -> int:
        """The epoch, from 1, that is best for all folds together; the earliest of equals."""
        return 1 + max(range(len(self.epoch_p)), key=self.epoch_p.__getitem__)


def score_held_out(predicted: Sequence[Predictions], held_out: Sequence[Split], grid: RegionGrid) -> Scores:
    """The scores of all tracks together; each fold's predictions are of its own split."""
    return evaluate(_joined(predicted), _labels_of(held_out), grid)


def mean_course(histories: Sequence[Sequence[Metrics]]) -> tuple[float, ...]:
    """P of each epoch that all folds have, as the mean over them."""
    return tuple(metrics["val/p"] for metrics in mean_history(histories))


def _joined(predicted: Sequence[Predictions]) -> Predictions:
    lengths = torch.cat([own.offsets.diff() for own in predicted])
    tracks = tuple(track for own in predicted for track in own.track_ids)
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    return Predictions(tracks, offsets, torch.cat([own.va for own in predicted]))


def _labels_of(splits: Sequence[Split]) -> Split:
    """All tracks with their labels, without a feature: what a score needs."""
    lengths = np.concatenate([np.diff(split.offsets) for split in splits])
    rows = {
        field: np.concatenate([getattr(split, field) for split in splits])
        for field in ("frame_index", "time_s", "va", "labelled")
    }
    tracks = tuple(track for split in splits for track in split.track_ids)
    videos = tuple(video for split in splits for video in split.raw_videos)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Split("folds", tracks, offsets, streams={}, encoders={}, recordings=videos, **rows)
