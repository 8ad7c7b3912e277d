"""The optimizer of a run."""

from __future__ import annotations

import inspect

import torch
from torch import nn

from affectgrid.training.config import OptimConfig

_AdamW = torch.optim.AdamW


class EagerAdamW(torch.optim.AdamW):
    """AdamW step for step, without a word to torch's compiler.

    torch.optim's methods are wrapped so that `torch.compile` leaves them alone, and the wrappers load the compiler: two
    seconds at the start of every process that trains. Here they are unwrapped.
    """

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
