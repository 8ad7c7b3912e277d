"""The golden run: every part of the method once, small enough for every push."""

from __future__ import annotations

from affectgrid.training.loop import fit
from support.planted import planted_data, small_config


def golden_scores() -> dict[str, list[float]]:
    """Every metric of every epoch. Dropout is on: the draws of a seed are the same on every CPU."""
    data = planted_data()
    config = small_config(optim__epochs=4, loss__mse_weight=0.3, prompt__sigma_ratio=0.4, window__smooth_half_width=1)
    history = fit(config, data.train, data.validation, data.prompts["3x3-plain"]).history
    return {name: [metrics[name] for metrics in history] for name in history[0]}
