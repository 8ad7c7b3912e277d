"""The optimizer of a run."""

from __future__ import annotations

import torch
from torch import nn

from affectgrid.training.config import OptimConfig


def adamw(model: nn.Module, optim: OptimConfig) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices alone, as is usual: a bias, a norm or a temperature has no reason to shrink."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": optim.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=optim.lr, fused=True)
