"""Windows of a resident split as batches, by index arithmetic: one gather per array, no copy per sample."""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from affectgrid.data.resident import Split
from affectgrid.model.config import Stream
from affectgrid.windows import WindowIndex

_BLOCK_ROWS = 65_536


@dataclasses.dataclass(frozen=True)
class Batch:
    """Windows side by side, as long as the longest of them.

    Args:
        visual, audio: features, in the precision of the split.
        visual_present, audio_present: whether the stream has the frame.
        frame_mask: False after the end of a window that is shorter than the longest.
        va: labels; meaningless where `labelled` is False.
        labelled: frames whose label counts.
    """

    visual: Float[Tensor, "window frame visual"]
    visual_present: Bool[Tensor, "window frame"]
    audio: Float[Tensor, "window frame audio"]
    audio_present: Bool[Tensor, "window frame"]
    frame_mask: Bool[Tensor, "window frame"]
    va: Float[Tensor, "window frame 2"]
    labelled: Bool[Tensor, "window frame"]


class Resident:
    """A split's arrays as tensors on one device. On the CPU they are the split's own memory."""

    def __init__(self, split: Split, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.visual = _tensor(split.visual, self.device)
        self.visual_present = _tensor(split.visual_present, self.device)
        self.audio = _tensor(split.audio, self.device)
        self.audio_present = _tensor(split.audio_present, self.device)
        self.va = _tensor(split.va, self.device)
        self.labelled = _tensor(split.labelled, self.device)

    def gather(
        self, index: WindowIndex, windows: Int[Tensor, " window"], counted: Bool[Tensor, " window"] | None = None
    ) -> Batch:
        """Those windows of `index`. Where `counted` is False a window only fills its place: its labels are left out."""
        start, stop = index.start[windows], index.stop[windows]
        rows = start[:, None] + torch.arange(int((stop - start).max()))
        mask = rows < stop[:, None]
        rows = torch.minimum(rows, stop[:, None] - 1).to(self.device)  # padding repeats the window's last row
        labelled = mask if counted is None else mask & counted[:, None]
        mask, labelled = mask.to(self.device), labelled.to(self.device) & self.labelled[rows]
        return Batch(
            visual=self.visual[rows],
            visual_present=self.visual_present[rows] & mask,
            audio=self.audio[rows],
            audio_present=self.audio_present[rows] & mask,
            frame_mask=mask,
            va=self.va[rows],
            labelled=labelled,
        )

    def statistics(self) -> dict[Stream, tuple[Float[Tensor, " dim"], Float[Tensor, " dim"]]]:
        """Mean and standard deviation of every feature of each stream, over the rows that have it; 0 without any."""
        streams: tuple[tuple[Stream, Tensor, Tensor], ...] = (
            ("visual", self.visual, self.visual_present),
            ("audio", self.audio, self.audio_present),
        )
        return {stream: _mean_and_deviation(features, present) for stream, features, present in streams}

    def with_labels(self, index: WindowIndex) -> WindowIndex:
        """The windows that hold at least one labelled frame."""
        before = torch.nn.functional.pad(self.labelled.cpu().long().cumsum(0), (1, 0))
        return take(index, before[index.stop] > before[index.start])


def _mean_and_deviation(features: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """In blocks, two passes: the split may be larger than what is free, and one pass would cancel."""
    blocks = [slice(first, first + _BLOCK_ROWS) for first in range(0, len(features), _BLOCK_ROWS)]
    count = present.sum().clamp(min=1)
    mean = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    for block in blocks:
        mean += features[block][present[block]].double().sum(0) / count
    variance = torch.zeros_like(mean)
    for block in blocks:
        variance += (features[block][present[block]].double() - mean).square().sum(0) / count
    return mean.float(), variance.sqrt().float()


def take(index: WindowIndex, windows: Int[Tensor, " taken"] | Bool[Tensor, " window"]) -> WindowIndex:
    """Those windows of `index`, in that order."""
    return dataclasses.replace(index, start=index.start[windows], stop=index.stop[windows], track=index.track[windows])


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


def _tensor(array: NDArray[np.generic], device: torch.device) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="The given NumPy array is not writable"
        )  # shared memory; nobody writes
        return torch.from_numpy(array).to(device)
