"""Train a model for each fold, and score every track by the one that has not seen it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from affectgrid.data.export import write_track
from affectgrid.distributed.evaluate import choose_smoothing
from affectgrid.distributed.train.run import TrainResult
from affectgrid.storage import Storage, results
from affectgrid.training.config import TrainConfig
from affectgrid.training.data import FoldedData, PreparedData
from affectgrid.training.inference.ensemble import load_ensemble, save_ensemble
from affectgrid.training.inference.folds import FoldedResult, mean_course, score_held_out
from affectgrid.training.inference.predict import evaluate, predict_split


class TrainFold(Protocol):
    """One run."""

    def __call__(self, data: PreparedData, *, name: str) -> TrainResult:
        """What is learnt from and scored on, and the run's name."""


def train_folds(
    config: TrainConfig,
    data: FoldedData,
    train_fold: TrainFold,
    *,
    place: Storage,
    name: str,
    half_widths: Sequence[int] = (),
) -> FoldedResult:
    """One run after another, ``<name>-fold-0`` and so on; those that are done are not done again.

    Smoothing is chosen on the held-out tracks of all folds together, and kept in each package (`half_widths`).
    """
    parts = data.parts
    runs = [train_fold(part, name=f"{name}-fold-{number}") for number, part in enumerate(parts)]
    packages = [run.place / run.package.name for run in runs]
    held_out = [part.validation for part in parts]
    curve = choose_smoothing(packages, held_out, half_widths)[1] if half_widths else None
    ensemble = load_ensemble(packages)
    predicted = [
        predict_split(member.model, split, member.config.window)
        for member, split in zip(ensemble.members, held_out, strict=True)
    ]
    grid = data.prompts[config.prompt.file].grid
    alone = [evaluate(own, split, grid, num_resamples=0).p for own, split in zip(predicted, held_out, strict=True)]
    scores = score_held_out(predicted, held_out, grid)
    epoch_p = mean_course([run.history for run in runs])
    save_ensemble(place / "ensemble.json", ensemble)
    place.write_json("folds.json", {"folds": data.folds.num_folds, "fold_of": dict(data.folds.fold_of)})
    with results(place / "out-of-fold") as folder:
        for own, split in zip(predicted, held_out, strict=True):
            for number, track in enumerate(split.track_ids):
                rows = split.track(number)
                times = split.frame_index[rows], split.time_s[rows]
                write_track(folder / f"{track}.csv", *times, own.va[rows].numpy())
    return FoldedResult(place, ensemble, tuple(alone), scores, epoch_p, curve)
