"""How the processes of one run exchange sums and gradients. A single process needs none of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
import torch.distributed.nn.functional as differentiable
from jaxtyping import Int
from torch import Tensor, distributed, nn


def _identity(tensor: Tensor) -> Tensor:
    return tensor


def _alone(tensor: Tensor) -> list[Tensor]:
    return [tensor]


def _bare(model: nn.Module) -> nn.Module:
    return model


@dataclasses.dataclass(frozen=True)
class Workers:
    """The place of this process among the processes of a run.

    Args:
        rank: 0-based number of this process; rank 0 alone saves.
        count: number of processes.
        sum: differentiable sum over the processes; its backward pass sums too.
        gather: the tensors of every process, in order of rank, on every process.
        wrap: what joins the gradients, e.g. DistributedDataParallel.
    """

    rank: int = 0
    count: int = 1
    sum: Callable[[Tensor], Tensor] = _identity
    gather: Callable[[Tensor], Sequence[Tensor]] = _alone
    wrap: Callable[[nn.Module], nn.Module] = _bare

    @property
    def saves(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, offsets: Int[Tensor, " bound"]) -> Int[Tensor, " own"]:
        """The bounds of this worker's consecutive tracks; track i has the rows offsets[i]:offsets[i + 1]."""
        num_tracks = len(offsets) - 1
        first, last = (num_tracks * part // self.count for part in (self.rank, self.rank + 1))
        return offsets[first : last + 1]


SINGLE = Workers()


def process_group(device: torch.device | str = "cpu") -> Workers:
    """The workers of torch's default process group, which must be up (gloo on CPU, nccl on GPU).

    Every worker computes the loss of the whole batch from summed moments. The backward pass of the sum multiplies
    each gradient by the number of workers, and DistributedDataParallel divides by it: together they leave the
    gradient of one worker that sees the whole batch.
    """
    device = torch.device(device)

    def gather(tensor: Tensor) -> list[Tensor]:
        tensor = tensor.to(device)
        received = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
        distributed.all_gather(received, tensor)
        return received

    def wrap(model: nn.Module) -> nn.Module:
        # An absent token or the prompt head may take no part in a step.
        return nn.parallel.DistributedDataParallel(
            model, device_ids=[device] if device.type == "cuda" else None, find_unused_parameters=True
        )

    return Workers(distributed.get_rank(), distributed.get_world_size(), differentiable.all_reduce, gather, wrap)
