"""The learning rate and the average's decay as functions of the step, so that a resumed run needs no state for them."""

from __future__ import annotations

import math

from affectgrid.training.config import Schedule


def rate_factor(step: int, num_steps: int, *, warmup_share: float, schedule: Schedule = "cosine") -> float:
    """Share of the peak learning rate at a 0-based step: linear warm-up, then the schedule.

    The first step of a warm-up of n steps has 1/n of the peak, its last the whole of it. The step after it has the peak
    too; from there `cosine` falls along half a cosine and `linear` along a line, both to 0 one step after the last, and
    `constant` stays.
    """
    num_warmup = round(warmup_share * num_steps)
    if step < num_warmup:
        return (step + 1) / num_warmup
    progress = min(1.0, (step - num_warmup) / max(1, num_steps - num_warmup))
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return 1 - progress
    return 0.5 * (1 + math.cos(math.pi * progress))


def average_decay(step: int, decay: float) -> float:
    """Decay of the weights' moving average at a 0-based step: ``min(decay, (1 + step) / (10 + step))``.

    The climb lets a short run forget its random first weights, which a decay of .999 would keep for thousands of
    steps; it is that of TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``.
    """
    return min(decay, (1 + step) / (10 + step))
