"""The optimizer, its learning-rate schedule, the moving average of the weights, and the precision of a step.

`EagerAdamW` exists for the start of a process: the first step of torch's own AdamW imports torch's compiler, which
takes 1.05 s and 148 MiB in every process that trains (2-core Xeon; a search has one such process per core). The steps
are bitwise the same. Printed by ``pytest -q tests/benchmarks -m benchmark -k train_optimizer``.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import math
from collections.abc import Iterator

import torch
from torch import nn

from affectgrid.encoders.runtime.precision import native_half
from affectgrid.model.fusion import FusionModel
from affectgrid.training.config import OptimConfig, Schedule, TrainPrecision

_AdamW = torch.optim.AdamW


class EagerAdamW(torch.optim.AdamW):
    """torch's AdamW without the wrappers of its methods, which tell `torch.compile` to skip them and so import it."""

    add_param_group = inspect.unwrap(_AdamW.add_param_group)
    zero_grad = inspect.unwrap(_AdamW.zero_grad)
    state_dict = inspect.unwrap(_AdamW.state_dict)
    load_state_dict = inspect.unwrap(_AdamW.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(_AdamW.step))  # the wrapper of this one also stops the recording of gradients


def adamw(model: nn.Module, optim: OptimConfig) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices alone, as is usual: a bias, a norm or a temperature has no reason to shrink."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": optim.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return EagerAdamW(groups, lr=optim.lr, fused=True)


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


class WeightAverage:
    """A second model whose parameters follow the first one's: ``average += (1 - decay) * (weight - average)``.

    Buffers (the features' statistics, frozen text features) do not change in training and are the same in both. Every
    worker keeps its own; they are equal, as the weights are.
    """

    def __init__(self, model: FusionModel, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after the 0-based `step` of the whole run."""
        keep = average_decay(step, self.decay)
        for average, weight in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(weight, 1 - keep)


_log = logging.getLogger(__name__)


def forward_pass(precision: TrainPrecision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The context of the model's forward pass: autocast to bfloat16, or nothing.

    Weights, optimizer, loss and the moments of the CCC stay in float32 and float64, and validation runs in float32: the
    model that is kept is used without autocast.
    """
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@contextlib.contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Within it, the same state takes the same steps again; afterwards torch's globals are as they were.

    The random numbers are the run's own, and of what CUDA may choose by itself nothing is left open: whether products
    are rounded to TF32, and which of cuDNN's algorithms is taken, by trial or although its sums have no fixed order.
    """
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
    ):
        allowed, products.allow_tf32 = products.allow_tf32, False
        try:
            yield
        finally:
            products.allow_tf32 = allowed


def warn_if_emulated(precision: TrainPrecision, device: torch.device) -> None:
    """Say so where the device computes bfloat16 slower than float32: the gain is not there."""
    if precision == "bf16" and native_half(device) != "bf16":
        _log.warning("optim.precision bf16 is emulated on this %s, and slower than fp32", device.type)
