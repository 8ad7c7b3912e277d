"""What the prompt head is to say of a frame: its label over the regions, as the configuration wants it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from affectgrid.model.fusion import FusionModel
from affectgrid.regions import RegionGrid, Sigma, smoothed_labels, soft_labels
from affectgrid.training.config import PromptConfig


class RegionLabels:
    """Labels over the regions of a grid, on one device."""

    def __init__(self, prompt: PromptConfig, grid: RegionGrid, device: torch.device) -> None:
        self.smoothing = prompt.smoothing if prompt.labels == "uniform" else 0.0
        self.gaussian = prompt.labels in ("gaussian", "learned")
        self.centres = grid.centres_tensor(device=device)
        widths = [ratio * grid.spacing for ratio in prompt.sigma_ratios]
        self.sigma: Sigma = widths[0] if len(widths) == 1 else torch.tensor(widths, device=device)

    def __call__(
        self, va: Float[Tensor, "*batch 2"], learned: Float[Tensor, " axis"] | None
    ) -> Float[Tensor, "*batch region"]:
        """`learned` are the widths that the model has learnt, where it learns them; gradients pass to them."""
        if not self.gaussian:
            return smoothed_labels(va, self.centres, smoothing=self.smoothing)
        if learned is None:
            return soft_labels(va, self.centres, sigma=self.sigma)
        # A frame without a label holds anything. No loss reads it, but backwards even 0 times its NaN would be NaN.
        return soft_labels(va.nan_to_num(0.0).clamp(-1, 1), self.centres, sigma=learned)


def learned_widths(model: FusionModel) -> dict[str, float]:
    """The widths that a model has learnt so far, as metrics; empty where it learns none."""
    if model.sigma is None:
        return {}
    valence, arousal = model.sigma().tolist()
    return {"train/sigma_valence": valence, "train/sigma_arousal": arousal}
