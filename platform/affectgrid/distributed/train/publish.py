"""The model of a finished run in MLflow: logged, and registered where that is asked for."""

from __future__ import annotations

from affectgrid.data.splits.resident import Split
from affectgrid.distributed.train.run import TrainResult
from affectgrid.tracking import Tracker
from affectgrid.training.inference.package import load_package
from affectgrid.training.inference.predict import Scores, evaluate, predict_split


def publish(
    result: TrainResult, validation: Split, tracker: Tracker, *, name: str, register: str | None = None
) -> Scores:
    """Score the package as it is now, with the smoothing that was chosen, and log it with its run.

    Raises ModelError as `load_package` does, TrackingError (TRK-AUTH, TRK-FORBIDDEN) where MLflow refuses the log.
    """
    package = load_package(result.package)
    scores = evaluate(predict_split(package.model, validation, package.config.window), validation, package.grid)
    metrics = {"p": scores.p, "ccc_valence": scores.ccc_valence, "ccc_arousal": scores.ccc_arousal}
    tracker.find(name).model(result.package, metrics, name=name, register=register)
    return scores
