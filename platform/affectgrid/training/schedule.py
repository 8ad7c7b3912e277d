"""The learning rate as a function of the step, so that a resumed run needs no state to find it."""

from __future__ import annotations

import math


def rate_factor(step: int, num_steps: int, *, warmup_share: float) -> float:
    """Share of the peak learning rate at a 0-based step: linear warm-up, then half a cosine that ends near 0.

    The first step of a warm-up of n steps has 1/n of the peak, its last the whole of it.
    """
    num_warmup = round(warmup_share * num_steps)
    if step < num_warmup:
        return (step + 1) / num_warmup
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
