"""The half-width of the smoothing filter, chosen on the validation split and kept with the model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from affectgrid.data.splits.resident import Split
from affectgrid.errors import ConfigError, Problem
from affectgrid.metrics import CccAccumulator
from affectgrid.storage import write_json
from affectgrid.training.inference.package import ModelPackage
from affectgrid.training.inference.predict import Predictions, predict_split, smooth_tracks

VALIDATION = "validation"


@dataclasses.dataclass(frozen=True)
class SmoothingCurve:
    """P on the validation split over the half-width of the filter.

    Args:
        half_widths: rising, in frames.
        p: of each.
    """

    half_widths: tuple[int, ...]
    p: tuple[float, ...]

    @property
    def chosen(self) -> int:
        """The half-width with the highest P; the narrowest of equals."""
        return self.half_widths[max(range(len(self.p)), key=lambda place: self.p[place])]


def smoothing_curve(package: ModelPackage, validation: Split, half_widths: Sequence[int]) -> SmoothingCurve:
    """Predict the validation split once and score it at every half-width.

    The best of several scores on one split flatters by a little: what is to be reported is the score on another split,
    or beside the curve. Raises ConfigError (CFG-SMOOTH) for a split of another name or for no half-width.
    """
    widths = tuple(sorted(set(half_widths)))
    if validation.name != VALIDATION or not widths or widths[0] < 0:
        found = f"half-widths {list(widths)} on split {validation.name!r}"
        expected = "one or more half-widths of 0 or more, compared on the validation split alone"
        raise ConfigError(
            Problem("CFG-SMOOTH", where="choose-smoothing", found=found, expected=expected, hint="choose on validation")
        )
    plain = package.config.window.model_copy(update={"smooth_half_width": 0})
    merged = predict_split(package.model, validation, plain)
    causal = package.config.model.causal
    return SmoothingCurve(widths, tuple(_p(merged, validation, width, causal=causal) for width in widths))


def keep_choice(folder: Path, package: ModelPackage, curve: SmoothingCurve) -> ModelPackage:
    """Write the chosen half-width into the package's ``config.json``, and the curve into its ``manifest.json``.

    From then on every prediction of the package is smoothed so. Returns the package as it is now.
    """
    content = json.loads((folder / "config.json").read_text())
    content["config"]["window"]["smooth_half_width"] = curve.chosen
    facts = json.loads((folder / "manifest.json").read_text())
    facts["smoothing"] = {"chosen": curve.chosen, "split": VALIDATION, **dataclasses.asdict(curve)}
    write_json(folder / "manifest.json", facts)
    write_json(folder / "config.json", content)
    window = package.config.window.model_copy(update={"smooth_half_width": curve.chosen})
    return dataclasses.replace(package, config=package.config.model_copy(update={"window": window}))


def _p(merged: Predictions, split: Split, half_width: int, *, causal: bool) -> float:
    smoothed = CccAccumulator()
    va = smooth_tracks(merged.va, merged.offsets, half_width, causal=causal)
    smoothed.update(va, torch.as_tensor(split.va), torch.as_tensor(split.labelled))
    return float(smoothed.compute().mean())
