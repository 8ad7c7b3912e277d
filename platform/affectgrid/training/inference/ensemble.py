"""Ensembles: the mean of several models' predictions, or a mean with weights fitted on validation."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from affectgrid.credentials import without_credentials
from affectgrid.data.splits.resident import Split
from affectgrid.errors import ModelError, Problem
from affectgrid.storage import Storage, fetched, is_uri
from affectgrid.training.inference.package import ModelPackage, load_package
from affectgrid.training.inference.predict import Predictions, predict_split

_VERSION = 2  # since weights are pairs
Weights = tuple[float, float]  # of valence and of arousal


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """One or more models; they may have been trained on features of different encoders.

    Args:
        places: of the model packages.
        members: the packages.
        weights: of each, by axis; not negative, their sum over the models is 1.
        fitted: whether the weights were fitted on validation, or are all the same.
    """

    places: tuple[Storage, ...]
    members: tuple[ModelPackage, ...]
    weights: tuple[Weights, ...]
    fitted: bool = False

    @property
    def name(self) -> str:
        """That of a single model's run; ``ensemble`` for several."""
        return "ensemble" if len(self.members) > 1 else self.places[0].split()[0].split()[1]

    @property
    def encoders(self) -> list[dict[str, str]]:
        """What the members' features were made with, each once, in the order of the members."""
        found: list[dict[str, str]] = []
        for member in self.members:
            if member.encoders not in found:
                found.append(member.encoders)
        return found

    def predict_members(self, split_for: Callable[[Mapping[str, str]], Split]) -> list[Predictions]:
        """Each member's own predictions, smoothed as its package says.

        `split_for` is called once for each of `encoders` and gives the same frames every time, else ModelError
        (ENS-ROWS).
        """
        predictions: dict[int, Predictions] = {}
        for encoders in self.encoders:
            split = split_for(encoders)
            for number, member in enumerate(self.members):
                if member.encoders == encoders:
                    predictions[number] = predict_split(member.model, split, member.config.window)
        ordered = [predictions[number] for number in range(len(self.members))]
        for number, own in enumerate(ordered):
            if own.track_ids != ordered[0].track_ids or not torch.equal(own.offsets, ordered[0].offsets):
                where, found = self.places[number].address, "other frames"
                hint = "see which tracks encode put in quarantine, or leave this model out"
                expected = f"the tracks and frames of {self.places[0].address}"
                raise ModelError(Problem("ENS-ROWS", where=where, found=found, expected=expected, hint=hint))
        return ordered


def load_ensemble(places: Sequence[Storage | Path | str]) -> Ensemble:
    """The models at `places`: packages, which share the weight evenly, or one file that `save_ensemble` wrote.

    Raises ModelError: what `load_package` raises, ENS-READ for a file that is none of ours, ENS-CHANGED where a model
    is not the one whose weight the file holds.
    """
    found = tuple(Storage(place) for place in places)
    if len(found) == 1 and found[0].split()[1].endswith(".json"):
        return _read(found[0])
    members = tuple(_load(place) for place in found)
    return Ensemble(found, members, ((1 / len(members),) * 2,) * len(members))


def save_ensemble(place: Storage, ensemble: Ensemble) -> Storage:
    """Write the members' places, their weights, and digests of what they hold, into a JSON file.

    Places on the file's own disk are relative to its folder, so that all of it can be moved.
    """
    folder, name = place.split()
    members = [
        {"model": _relative(member, folder), "weight": list(weight), "sha256": _digest(fetched(member))}
        for member, weight in zip(ensemble.places, ensemble.weights, strict=True)
    ]
    folder.write_json(name, {"version": _VERSION, "fitted": ensemble.fitted, "members": members})
    return place


def combine(predictions: Sequence[Predictions], weights: Sequence[Weights]) -> Predictions:
    """Their weighted mean, clipped to [-1, 1]. All are of the same frames."""
    total = torch.zeros_like(predictions[0].va, dtype=torch.float64)
    for own, weight in zip(predictions, weights, strict=True):
        total += torch.tensor(weight, dtype=torch.float64) * own.va.double()
    return dataclasses.replace(predictions[0], va=total.clamp(-1, 1).to(predictions[0].va.dtype))


def fit_weights(
    predictions: Sequence[Float[Tensor, "frame 2"]], va: Float[Tensor, "frame 2"], labelled: Bool[Tensor, " frame"]
) -> tuple[Weights, ...]:
    """Weights >= 0 with sum 1 whose mean has the highest CCC over the labelled frames; a pair per model, as a model
    may be better at one axis.

    The CCC of a weighted mean follows from the predictions' means and covariances, so each trial costs nothing. It may
    have several maxima: the search (SLSQP) starts from the even mean and from every single model, and the best end or
    start is taken, so that none of them scores better on these frames.
    """
    known = [own[labelled].double() for own in predictions]
    axes = [_fit_axis(torch.stack([own[:, axis] for own in known]), va[labelled, axis].double()) for axis in range(2)]
    return tuple(zip(*axes, strict=True))


def _fit_axis(p: Float[Tensor, "model frame"], t: Float[Tensor, " frame"]) -> tuple[float, ...]:
    means, target = p.mean(1).numpy(), float(t.mean())
    p, t = p - p.mean(1, keepdim=True), t - t.mean()
    n = max(1, len(t))
    between, to_target, variance = (p @ p.T / n).numpy(), (p @ t / n).numpy(), float(t.square().sum()) / n

    def negative_ccc(w: NDArray[np.float64]) -> float:
        spread = w @ between @ w + variance + (means @ w - target) ** 2
        return -float(2 * (to_target @ w) / max(spread, np.finfo(float).tiny))

    size = len(p)
    starts = [np.full(size, 1 / size), *np.eye(size)]
    simplex: dict[str, Any] = {
        "bounds": [(0, 1)] * size,
        "constraints": [{"type": "eq", "fun": lambda w: w.sum() - 1}],
    }
    ends: list[NDArray[np.float64]] = [minimize(negative_ccc, start, method="SLSQP", **simplex).x for start in starts]
    candidates = starts + [np.clip(end, 0, None) / np.clip(end, 0, None).sum() for end in ends]
    best = min(candidates, key=negative_ccc)
    return tuple(float(weight) for weight in best)


def _relative(member: Storage, folder: Storage) -> str:
    if member.path is None or folder.path is None:
        return without_credentials(member.uri)
    return os.path.relpath(member.path.resolve(), folder.path.resolve())


def _load(place: Storage) -> ModelPackage:
    try:
        return load_package(fetched(place))
    except FileNotFoundError as error:
        hint = "give the folder that train or tune wrote"
        raise ModelError(
            Problem("PKG-READ", where=place.address, found="nothing there", expected="a model package", hint=hint)
        ) from error


def _read(place: Storage) -> Ensemble:
    above, name = place.split()
    try:
        content = above.read_json(name)
        listed = [
            (_resolve(entry["model"], above), _pair(entry["weight"]), entry["sha256"]) for entry in content["members"]
        ]
        fitted = bool(content["fitted"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        hint = "give a model package's folder, or a file that evaluate wrote"
        raise ModelError(
            Problem("ENS-READ", where=place.address, found=str(error), expected="an ensemble file", hint=hint)
        ) from error
    members = []
    for member, _, digest in listed:
        members.append(_load(member))
        if _digest(fetched(member)) != digest:
            found, hint = "another model than the one that was weighted", "evaluate the models together again"
            raise ModelError(
                Problem(
                    "ENS-CHANGED",
                    where=member.address,
                    found=found,
                    expected=f"the model of {place.address}",
                    hint=hint,
                )
            )
    return Ensemble(tuple(f for f, _, _ in listed), tuple(members), tuple(w for _, w, _ in listed), fitted)


def _pair(weight: float | Sequence[float]) -> Weights:
    """Of valence and of arousal; files of version 1 have one for both."""
    valence, arousal = (weight, weight) if isinstance(weight, int | float) else weight
    return float(valence), float(arousal)


def _resolve(model: str, folder: Storage) -> Storage:
    return Storage(model if is_uri(model) or folder.path is None else folder.path / model)


def _digest(folder: Path) -> str:
    """Of everything in a package that a prediction depends on."""
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()
