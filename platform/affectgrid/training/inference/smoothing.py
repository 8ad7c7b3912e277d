"""The half-widths of the smoothing filter, chosen on the validation split and kept with the model."""

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
from affectgrid.training.inference.predict import finish_tracks, merge_tracks, require_finite, resident_for

VALIDATION = "validation"


@dataclasses.dataclass(frozen=True)
class SmoothingCurve:
    """CCC on the validation split over the half-width of the filter: each axis has its own.

    Args:
        half_widths: rising, in frames.
        valence: CCC of valence with each.
        arousal: CCC of arousal with each.
    """

    half_widths: tuple[int, ...]
    valence: tuple[float, ...]
    arousal: tuple[float, ...]

    @property
    def chosen(self) -> tuple[int, int]:
        """The half-widths with the highest CCC of valence and of arousal; the narrowest of equals."""
        places = [max(range(len(ccc)), key=ccc.__getitem__) for ccc in (self.valence, self.arousal)]
        return self.half_widths[places[0]], self.half_widths[places[1]]

    @property
    def p(self) -> float:
        """With the chosen ones."""
        return (max(self.valence) + max(self.arousal)) / 2

    @property
    def settings(self) -> dict[str, int | None]:
        """What the window's configuration calls the chosen ones."""
        valence, arousal = self.chosen
        return {"smooth_half_width": valence, "smooth_half_width_arousal": None if arousal == valence else arousal}


def smoothing_curve(scored: Sequence[tuple[ModelPackage, Split]], half_widths: Sequence[int]) -> SmoothingCurve:
    """Predict the split of each model once, and score all of them together at every half-width.

    One model and the validation split, or the models of several folds and the tracks that each has not seen. The best
    of several scores on the same tracks flatters by a little: what is to be reported is the score on other tracks, or
    beside the curve. Raises ConfigError (CFG-SMOOTH) for a split of another name or for no half-width.
    """
    widths = tuple(sorted(set(half_widths)))
    others = [split.name for _, split in scored if split.name != VALIDATION]
    if others or not widths or widths[0] < 0:
        found = f"half-widths {list(widths)}" + "".join(f" on split {name!r}" for name in others[:1])
        expected = "one or more half-widths of 0 or more, compared on the validation split alone"
        raise ConfigError(
            Problem("CFG-SMOOTH", where="choose-smoothing", found=found, expected=expected, hint="choose on validation")
        )
    pooled = [CccAccumulator() for _ in widths]
    for package, split in scored:
        model, window, bounds = package.model, package.config.window, torch.as_tensor(split.offsets)
        labels = torch.as_tensor(split.va), torch.as_tensor(split.labelled)
        resident = resident_for(model.config, window, split)
        merged = merge_tracks(model, resident, bounds, window)
        for width, found_ccc in zip(widths, pooled, strict=True):
            other = window.model_copy(update={"smooth_half_width": width, "smooth_half_width_arousal": None})
            va = finish_tracks(merged, resident, bounds, other, causal=model.config.causal)
            found_ccc.update(require_finite(va, split), *labels)
    ccc = [found_ccc.compute().tolist() for found_ccc in pooled]
    return SmoothingCurve(widths, tuple(valence for valence, _ in ccc), tuple(arousal for _, arousal in ccc))


def keep_choice(folder: Path, package: ModelPackage, curve: SmoothingCurve) -> ModelPackage:
    """Write the chosen half-width into the package's ``config.json``, and the curve into its ``manifest.json``.

    From then on every prediction of the package is smoothed so. Returns the package as it is now.
    """
    content = json.loads((folder / "config.json").read_text())
    content["config"]["window"].update(curve.settings)
    facts = json.loads((folder / "manifest.json").read_text())
    facts["smoothing"] = {"chosen": curve.chosen, "split": VALIDATION, **dataclasses.asdict(curve)}
    write_json(folder / "manifest.json", facts)
    write_json(folder / "config.json", content)
    window = package.config.window.model_copy(update=curve.settings)
    return dataclasses.replace(package, config=package.config.model_copy(update={"window": window}))
