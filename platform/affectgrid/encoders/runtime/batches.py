"""How many samples a forward pass takes: what is fast on the device, and what its memory holds."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

log = logging.getLogger(__name__)

# More keep no core busier, and their activations leave its cache; fewer start small products.
_ON_A_PROCESSOR = 16
# A forward pass of fewer ends before the next one has been launched.
_ON_A_GPU = 256


class Batches:
    """Runs a network over many samples. What does not fit in the device's memory is halved, once and for all.

    Free memory is not asked for: other processes may share the card, and what a pass needs depends on the network.

    Args:
        device: where the network computes.
        size: most samples in one pass; None: 16 on a processor, 256 on a GPU.
    """

    def __init__(self, device: torch.device, size: int | None = None) -> None:
        self.size = size or (_ON_A_GPU if device.type == "cuda" else _ON_A_PROCESSOR)

    def run(self, count: int, compute: Callable[[slice], Tensor]) -> Tensor:
        """Features [count, dim], float32 on the CPU, of `count` >= 1 samples; `compute` gives those of a slice.

        On a GPU nothing waits before the last batch is under way. Raises torch.OutOfMemoryError where one sample is
        too many.
        """
        made: list[Tensor] = []
        done = 0
        while done < count:
            features = self._try(slice(done, min(done + self.size, count)), compute)
            if features is None:
                self.size //= 2
                torch.cuda.empty_cache()
                log.warning("the GPU's memory is full: on with %d samples in a forward pass", self.size)
                continue
            made.append(features)
            done += len(features)
        return torch.cat(made).float().cpu().clone()

    def _try(self, part: slice, compute: Callable[[slice], Tensor]) -> Tensor | None:
        """None where memory ends. What the failed pass held is free once this has returned."""
        try:
            return compute(part)
        except torch.OutOfMemoryError:
            if self.size == 1:
                raise
            return None
