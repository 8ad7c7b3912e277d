"""Torch's random state on one device as one tensor, so that workers can gather it and a checkpoint hold it."""

from __future__ import annotations

import torch
from jaxtyping import UInt8
from torch import Tensor


def random_state(device: torch.device) -> UInt8[Tensor, " byte"]:
    """The state of the CPU's generator, followed by that of a GPU's."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states)


def set_random_state(state: UInt8[Tensor, " byte"], device: torch.device) -> None:
    """Go on with the random numbers from where `random_state` was taken on the same kind of device."""
    size = len(torch.get_rng_state())
    torch.set_rng_state(state[:size].clone())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[size:].clone(), device)
