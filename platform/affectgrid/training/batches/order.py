"""The order in which a run reads its windows: the same for any number of workers, and after any resume."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from affectgrid.windows import WindowIndex


def take(index: WindowIndex, windows: Int[Tensor, " taken"] | Bool[Tensor, " window"]) -> WindowIndex:
    """Those windows of `index`, in that order."""
    return dataclasses.replace(index, start=index.start[windows], stop=index.stop[windows], track=index.track[windows])


def jittered(index: WindowIndex, offsets: Int[Tensor, " bound"], reach: int, seed: int) -> WindowIndex:
    """The windows, each moved by up to `reach` rows at random, but never out of its track."""
    generator = torch.Generator().manual_seed(seed)
    shift = torch.randint(-reach, reach + 1, (len(index),), generator=generator)
    size = index.stop - index.start
    start = torch.clamp(index.start + shift, offsets[index.track], offsets[index.track + 1] - size)
    return dataclasses.replace(index, start=start, stop=start + size)


def seed_of(*parts: object) -> int:
    """A 63-bit seed that depends on every part, the same in every process and on every machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little") >> 1


def shuffled_batches(
    num_windows: int,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    num_workers: int = 1,
    chances: Float[Tensor, " window"] | None = None,
) -> Iterator[tuple[Int[Tensor, " share"], Bool[Tensor, " share"]]]:
    """This worker's share of every batch of an epoch: window numbers, and whether each counts.

    The order depends on seed and epoch alone, and a batch holds the same windows however many workers share it.
    Without `chances` every window comes once; with them (they need not sum to 1) each place is drawn on its own.
    Shares of one batch have one length: where windows run out a worker gets one that does not count.
    """
    generator = torch.Generator().manual_seed(seed_of("order", seed, epoch))
    if chances is None:
        order = torch.randperm(num_windows, generator=generator)
    else:
        order = torch.multinomial(chances.double(), num_windows, replacement=True, generator=generator)
    for first in range(0, num_windows, batch_size):
        batch = order[first : first + batch_size]
        places = torch.arange(rank, -(-len(batch) // num_workers) * num_workers, num_workers)
        yield batch[places.clamp(max=len(batch) - 1)], places < len(batch)
