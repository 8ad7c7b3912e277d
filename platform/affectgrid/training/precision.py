"""In which precision a training step computes."""

from __future__ import annotations

import contextlib
import logging

import torch

from affectgrid.encoders.precision import native_half
from affectgrid.training.config import TrainPrecision

_log = logging.getLogger(__name__)


def forward_pass(precision: TrainPrecision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The context of the model's forward pass: autocast to bfloat16, or nothing.

    Weights, optimizer, loss and the moments of the CCC stay in float32 and float64, and validation runs in float32: the
    model that is kept is used without autocast.
    """
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def warn_if_emulated(precision: TrainPrecision, device: torch.device) -> None:
    """Say so where the device computes bfloat16 slower than float32: the gain is not there."""
    if precision == "bf16" and native_half(device) != "bf16":
        _log.warning("optim.precision bf16 is emulated on this %s, and slower than fp32", device.type)
