"""What an encoder and its runtime know of each other."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from affectgrid.encoders.runtime.precision import Resolved


class Runtime(Protocol):
    """Computes a network's features. ``label`` names its arithmetic: it is part of the features' digest."""

    precision: Resolved
    label: str

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Features [n, dim] of the network's inputs, each [n, ...]; on any device, in any floating type."""


class Encoder(Protocol):
    """An encoder as `choice` sees it: freshly loaded, it computes in float32 by torch."""

    name: str
    device: torch.device
    weights: str
    network: nn.Module
    runtime: Runtime

    def inputs(self, sample: Any) -> tuple[Tensor, ...]:
        """Pictures, or windows of sound, as the network takes them."""

    def drawn(self) -> Any:
        """A sample for where no real one is at hand."""
