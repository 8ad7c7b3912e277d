"""A finished run: its report, and its model in MLflow, logged, and registered where that is asked for."""

from __future__ import annotations

from pathlib import Path

from affectgrid.analysis.evaluation import Evaluation, worst_frames
from affectgrid.distributed.train.run import TrainResult
from affectgrid.reporting.scores import write_evaluation
from affectgrid.reporting.study.card import model_card
from affectgrid.storage import Storage, write_atomic
from affectgrid.tracking import CARD, NOTE, Tracker
from affectgrid.training.data import PreparedData
from affectgrid.training.inference.ensemble import Ensemble
from affectgrid.training.inference.groups import score_groups
from affectgrid.training.inference.package import load_package
from affectgrid.training.inference.predict import Predictions, Scores, evaluate, predict_split
from affectgrid.training.manifest import Manifest, collect

REPORT = "report"  # the name of a folder beside the run's model


def publish(
    result: TrainResult, data: PreparedData, tracker: Tracker, *, name: str, note: str, register: str | None = None
) -> Scores:
    """Score the package as it is now, with the smoothing that was chosen, write report and card, and log all three.

    `note` must stand beside the score. Raises ModelError as `load_package` does, TrackingError (TRK-AUTH,
    TRK-FORBIDDEN) where MLflow refuses the log.
    """
    package, validation = load_package(result.package), data.validation
    predictions = predict_split(package.model, validation, package.config.window)
    scores = evaluate(predictions, validation, package.grid)
    metrics = {"p": scores.p, "ccc_valence": scores.ccc_valence, "ccc_arousal": scores.ccc_arousal}
    facts = Manifest(**package.manifest) if package.manifest else collect(data=data.fingerprint)
    text = model_card(name, package, scores, [data.train, validation], facts, caveat=note, registered=register)
    path, run = write_atomic(result.package / CARD, text), tracker.find(name)
    result.place.upload(result.package, result.package.name)
    run.artifact(path, "model")
    alone = Ensemble((result.place / result.package.name,), (package,), ((1.0, 1.0),))
    report = _write_report(result, alone, predictions, scores, data, name, note)
    run.artifact(report / "report.html", "report")
    run.tags({NOTE: text})
    run.model(result.package, metrics, name=name, register=register)
    return scores


def _write_report(
    result: TrainResult,
    alone: Ensemble,
    predictions: Predictions,
    scores: Scores,
    data: PreparedData,
    name: str,
    note: str,
) -> Path:
    """As of an evaluation, in the run's folder ``report``, with the course of the training."""
    tracks = tuple(score_groups(predictions, data.validation))
    worst = worst_frames(predictions, data.validation, data.media)
    done = Evaluation(alone, data.validation, predictions, scores, tracks=tracks, worst=worst)
    folder = result.folder / REPORT
    write_evaluation(Storage(folder), done, note, histories={name: result.history})
    result.place.upload(folder, REPORT)
    return folder
