"""The model of a finished run in MLflow: logged, and registered where that is asked for."""

from __future__ import annotations

from affectgrid.distributed.train.run import TrainResult
from affectgrid.reporting.study.card import model_card
from affectgrid.storage import write_atomic
from affectgrid.tracking import CARD, NOTE, Tracker
from affectgrid.training.data import PreparedData
from affectgrid.training.inference.package import load_package
from affectgrid.training.inference.predict import Scores, evaluate, predict_split
from affectgrid.training.manifest import Manifest, collect


def publish(
    result: TrainResult, data: PreparedData, tracker: Tracker, *, name: str, note: str, register: str | None = None
) -> Scores:
    """Score the package as it is now, with the smoothing that was chosen, write its card, and log both with its run.

    `note` must stand beside the score. Raises ModelError as `load_package` does, TrackingError (TRK-AUTH,
    TRK-FORBIDDEN) where MLflow refuses the log.
    """
    package, validation = load_package(result.package), data.validation
    scores = evaluate(predict_split(package.model, validation, package.config.window), validation, package.grid)
    metrics = {"p": scores.p, "ccc_valence": scores.ccc_valence, "ccc_arousal": scores.ccc_arousal}
    facts = Manifest(**package.manifest) if package.manifest else collect(data=data.fingerprint)
    text = model_card(name, package, scores, [data.train, validation], facts, caveat=note, registered=register)
    path, run = write_atomic(result.package / CARD, text), tracker.find(name)
    result.place.upload(result.package, result.package.name)
    run.artifact(path, "model")
    run.tags({NOTE: text})
    run.model(result.package, metrics, name=name, register=register)
    return scores
