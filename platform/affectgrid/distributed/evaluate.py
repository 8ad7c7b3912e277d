"""Evaluate models on a split: encode it as each model needs it, predict, weight, score and compare."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from affectgrid.analysis.evaluation import CLEAN, TOGETHER, Compared, Evaluation, compare_predictions, worst_frames
from affectgrid.data.catalog.people import read_people
from affectgrid.data.features.imported import imported_by
from affectgrid.data.splits.impaired import Impairment, impairments
from affectgrid.data.splits.resident import Split
from affectgrid.data.workspace import Workspace
from affectgrid.distributed.options import CatalogOptions, DataOptions
from affectgrid.distributed.prepare import LABELLED, Encoded, encode_data
from affectgrid.errors import ConfigError, Problem
from affectgrid.storage import Storage, fetched
from affectgrid.training.inference.ensemble import Ensemble, combine, fit_weights
from affectgrid.training.inference.groups import score_groups
from affectgrid.training.inference.package import ModelPackage, load_package
from affectgrid.training.inference.predict import Predictions, evaluate
from affectgrid.training.inference.smoothing import VALIDATION, SmoothingCurve, keep_choice, smoothing_curve

SplitFor = Callable[[Mapping[str, str]], Split]  # encoders -> the split with their features


def evaluate_models(
    ensemble: Ensemble,
    data: CatalogOptions,
    workspace: Workspace,
    *,
    split: str,
    store: str | None = None,
    fit: bool = False,
    half_widths: Sequence[int] = (),
    against: Sequence[tuple[str, Ensemble]] = (),
    people: Path | None = None,
    robustness: bool = False,
) -> Evaluation:
    """Score one model, or several together, and compare others with it. Needs a Ray connection.

    Weights (`fit`) and the smoothing of a single model (`half_widths`, kept in its package) are always chosen on the
    validation split, whichever `split` is scored. `against` holds the others by name, each a model or several
    together. `people` is a file for ``read_people``, in place of what the data set says of who is seen. With
    `robustness` the models predict impaired input too. Raises ConfigError (CFG-SMOOTH) for half-widths and several
    models, and what `compare_predictions` and `read_people` raise.
    """
    encoded: dict[str, Encoded] = {}

    def encoded_as(encoders: Mapping[str, str]) -> Encoded:
        options = DataOptions.for_package(data, dict(encoders)).model_copy(update={"store": store})
        streams = [stream.name for stream in imported_by(encoders)]
        key = f"{options.encode.model_dump_json()} {streams}"
        if key not in encoded:
            encoded[key] = encode_data(options, workspace, streams, splits={*LABELLED, split})
            _require_same_source(encoded[key], encoders)
        return encoded[key]

    def split_named(name: str, encoders: Mapping[str, str]) -> Split:
        return encoded_as(encoders).split(name)

    def members_on(name: str, models: Ensemble) -> list[Predictions]:
        return models.predict_members(lambda encoders: split_named(name, encoders))

    curve = None
    if half_widths:
        ensemble, curve = _choose_smoothing(ensemble, split_named(VALIDATION, ensemble.encoders[0]), half_widths)
    target = split_named(split, ensemble.encoders[0])
    members = members_on(split, ensemble)
    if fit:
        validation = split_named(VALIDATION, ensemble.encoders[0])
        judged = members if split == VALIDATION else members_on(VALIDATION, ensemble)
        labels = torch.as_tensor(validation.va), torch.as_tensor(validation.labelled)
        weights = fit_weights([own.va for own in judged], *labels)
        ensemble = dataclasses.replace(ensemble, weights=weights, fitted=True)
    predictions = combine(members, ensemble.weights)
    scores = evaluate(predictions, target, ensemble.members[0].grid)
    alone = [(place.address, own) for place, own in zip(ensemble.places, members, strict=True)]
    named = [(TOGETHER, predictions), *alone] if len(members) > 1 else [(alone[0][0], predictions)]
    named += [(name, combine(members_on(split, other), other.weights)) for name, other in against]
    compared = compare_predictions(named, target)
    media = {track.id: track for track in encoded_as(ensemble.encoders[0]).tracks(split)}
    known = {name: track.subject for name, track in media.items() if track.subject}
    who = read_people(people, target.track_ids) if people else known
    return Evaluation(
        ensemble,
        target,
        predictions,
        scores,
        member_p=tuple(own.p for own in compared[1 : 1 + len(members)]) if len(members) > 1 else (),
        curve=curve,
        compared=compared if len(compared) > 1 else (),
        tracks=tuple(score_groups(predictions, target)),
        people=tuple(score_groups(predictions, target, who)) if who else (),
        robustness=impaired_scores(ensemble, lambda own: split_named(split, own), predictions) if robustness else (),
        worst=worst_frames(predictions, target, media),
    )


def impaired_scores(ensemble: Ensemble, split_for: SplitFor, predictions: Predictions) -> tuple[Compared, ...]:
    """Scores of the models' `predictions` of the split, and of what they predict from it impaired, compared."""
    streams = dict.fromkeys(name for member in ensemble.members for name in member.config.model.streams)
    named = [(CLEAN, predictions)]
    for name, impair in impairments(streams).items():
        members = ensemble.predict_members(functools.partial(_impaired, split_for, impair))
        named.append((name, combine(members, ensemble.weights)))
    return compare_predictions(named, split_for(ensemble.encoders[0]))


def _impaired(split_for: SplitFor, impair: Impairment, encoders: Mapping[str, str]) -> Split:
    return impair(split_for(encoders))


def _require_same_source(encoded: Encoded, encoders: Mapping[str, str]) -> None:
    """An imported stream must be of the source that the model was trained on. Raises ConfigError (CFG-STREAM)."""
    for wanted, found in zip(imported_by(encoders), encoded.imported, strict=True):
        if wanted.fingerprint != found.fingerprint:
            expected, hint = f"features of {wanted.source!r}", "import those into another store: --store"
            raise ConfigError(
                Problem("CFG-STREAM", where=found.name, found=f"{found.source!r}", expected=expected, hint=hint)
            )


def _choose_smoothing(
    ensemble: Ensemble, validation: Split, half_widths: Sequence[int]
) -> tuple[Ensemble, SmoothingCurve]:
    if len(ensemble.members) > 1:
        found, hint = f"{len(ensemble.members)} models", "choose it for each model, then evaluate all together"
        raise ConfigError(Problem("CFG-SMOOTH", where="choose-smoothing", found=found, expected="one model", hint=hint))
    members, curve = choose_smoothing(ensemble.places, [validation], half_widths)
    return dataclasses.replace(ensemble, members=members), curve


def choose_smoothing(
    places: Sequence[Storage], held_out: Sequence[Split], half_widths: Sequence[int]
) -> tuple[tuple[ModelPackage, ...], SmoothingCurve]:
    """The half-widths with the best CCC on what each model has not seen; they are kept in the packages at `places`."""
    folders = [fetched(place) for place in places]
    packages = [load_package(folder) for folder in folders]
    curve = smoothing_curve(list(zip(packages, held_out, strict=True)), half_widths)
    chosen = []
    for place, folder, package in zip(places, folders, packages, strict=True):
        chosen.append(keep_choice(folder, package, curve))
        place.upload(folder, "")
    return tuple(chosen), curve
