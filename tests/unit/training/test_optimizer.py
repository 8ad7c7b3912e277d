"""AdamW without torch's compiler is AdamW, and without the compiler."""

from __future__ import annotations

import copy
import subprocess
import sys

import torch
from torch import Tensor, nn

from affectgrid.training.config import OptimConfig
from affectgrid.training.optim import adamw


def groups(model: nn.Module) -> list[dict[str, object]]:
    return [
        {"params": [one for one in model.parameters() if one.ndim >= 2], "weight_decay": 0.3},
        {"params": [one for one in model.parameters() if one.ndim < 2], "weight_decay": 0.0},
    ]


def three_steps(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    draw = torch.Generator().manual_seed(1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(5, 4, generator=draw)).square().sum().backward()
        optimizer.step()
        schedule.step()
    return model.state_dict()


def test_it_steps_as_torchs_own():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    reference = copy.deepcopy(model)
    ours = adamw(model, OptimConfig(lr=0.1, weight_decay=0.3))
    theirs = torch.optim.AdamW(groups(reference), lr=0.1, fused=True)
    assert [len(group["params"]) for group in ours.param_groups] == [2, 2]
    torch.testing.assert_close(three_steps(model, ours), three_steps(reference, theirs), rtol=0, atol=0)
    assert ours.state_dict()["param_groups"] == theirs.state_dict()["param_groups"]


def test_a_step_is_not_recorded_and_its_state_can_be_loaded():
    model = nn.Linear(2, 2)
    optimizer = adamw(model, OptimConfig(lr=0.1))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert all(one.grad_fn is None and one.requires_grad for one in model.parameters())
    again = adamw(model, OptimConfig(lr=0.5))
    again.load_state_dict(optimizer.state_dict())
    assert again.param_groups[0]["lr"] == 0.1


def test_the_compiler_is_not_loaded():
    """Two seconds of every process that trains."""
    script = (
        "import sys, torch\n"
        "from affectgrid.training.config import OptimConfig\n"
        "from affectgrid.training.optim import adamw\n"
        "model = torch.nn.Linear(2, 2)\n"
        "optimizer = adamw(model, OptimConfig())\n"
        "optimizer.zero_grad()\n"
        "model(torch.ones(1, 2)).sum().backward()\n"
        "optimizer.step()\n"
        "optimizer.load_state_dict(optimizer.state_dict())\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
