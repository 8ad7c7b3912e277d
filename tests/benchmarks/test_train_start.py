"""What the optimizer costs at the start of a process that trains."""

from __future__ import annotations

import statistics
import subprocess
import sys

FIRST_STEP = """
import sys, time, torch
from affectgrid.training.optim import EagerAdamW

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

model = torch.nn.Linear(2, 2)
before_mib, began = resident_mib(), time.perf_counter()
optimizer = {"EagerAdamW": EagerAdamW, "AdamW": torch.optim.AdamW}[sys.argv[1]](model.parameters(), fused=True)
optimizer.zero_grad()
model(torch.ones(1, 2)).sum().backward()
optimizer.step()
print(time.perf_counter() - began, resident_mib() - before_mib)
"""


def first_step(optimizer: str) -> tuple[float, float]:
    """Seconds and MiB of a first step in a fresh process; medians of three."""
    command = [sys.executable, "-c", FIRST_STEP, optimizer]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(3)]
    seconds, mib = zip(*runs, strict=True)
    return statistics.median(map(float, seconds)), statistics.median(map(float, mib))


def test_train_optimizer(say) -> None:
    """The first step of torch's AdamW, which imports torch's compiler, over that of `EagerAdamW`."""
    ours_s, ours_mib = first_step("EagerAdamW")
    theirs_s, theirs_mib = first_step("AdamW")
    figures = f"{theirs_s:.2f} over {ours_s:.3f} s, {theirs_mib:.0f} over {ours_mib:.0f} MiB"
    say("train_optimizer", theirs_s / ours_s, figures, "told")
