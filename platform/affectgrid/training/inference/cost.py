"""The cost of a model: its parameters, and the time of one window."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import nn

from affectgrid.data.splits.resident import Split
from affectgrid.training.config import WindowConfig

_NUM_WARM, _NUM_TIMED = 3, 20


def model_costs(
    model: nn.Module, split: Split, window: WindowConfig, *, device: str, latency: bool
) -> dict[str, float]:
    """``parameters``: the model's learned numbers; with `latency` also ``latency_ms``.

    Args:
        model: stands on `device`, and is left in evaluation mode.
        split: says how wide the features are.
        window: says how many frames one forward pass sees.
        device: what is timed, with the threads that a trial has.
        latency: the time of one window alone is measured, in ms.
    """
    costs = {"parameters": float(sum(parameter.numel() for parameter in model.parameters()))}
    if latency:
        costs["latency_ms"] = _latency_ms(model, split.dims, window.length, device)
    return costs


@torch.no_grad()
def _latency_ms(model: nn.Module, dims: Mapping[str, int], num_frames: int, device: str) -> float:
    """The fastest of some passes: trials that share the machine can only add to it, and would hide what is slow."""
    model.eval()
    present = torch.ones(1, num_frames, dtype=torch.bool, device=device)
    streams = {name: (torch.zeros(1, num_frames, dim, device=device), present) for name, dim in dims.items()}
    times_s = []
    for _ in range(_NUM_WARM + _NUM_TIMED):
        began = time.perf_counter()
        model(streams, present)
        if device == "cuda":
            torch.cuda.synchronize()
        times_s.append(time.perf_counter() - began)
    return 1000 * min(times_s[_NUM_WARM:])
