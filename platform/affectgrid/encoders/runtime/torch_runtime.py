"""A network by torch: on the processor or a GPU, in float32 or a half type."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from affectgrid.encoders.runtime.precision import Resolved, label

_DTYPES: dict[Resolved, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchRuntime:
    """Computes with the module itself, whose weights are rounded in place."""

    def __init__(self, network: nn.Module, precision: Resolved) -> None:
        self.precision, self.label = precision, label("torch", precision)
        self._dtype = _DTYPES[precision]
        self._network = network.to(self._dtype).to(memory_format=memory_format_of(network))

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Features on the network's device, in its type; nothing waits for a GPU."""
        with torch.inference_mode():
            features: Tensor = self._network(*(v.to(self._dtype) if v.is_floating_point() else v for v in inputs))
        return features


def memory_format_of(network: nn.Module) -> torch.memory_format:
    """Channels last for a network most of whose weights are convolutions; a transformer has one, of its patches.

    EfficientNet-Lite0 takes half the time that way in float32 (docs/benchmarks.md).
    """
    parameters = list(network.parameters())
    convolved = sum(parameter.numel() for parameter in parameters if parameter.ndim == 4)
    mostly = 2 * convolved > sum(parameter.numel() for parameter in parameters)
    return torch.channels_last if mostly else torch.preserve_format


def to_device(batch: Tensor, device: torch.device) -> Tensor:
    """A batch on the device. To a GPU it goes through pinned memory, and the copy runs beside the computation."""
    if device.type != "cuda" or batch.is_cuda:
        return batch.to(device)
    return batch.pin_memory().to(device, non_blocking=True)
