"""Windows of a resident split as batches, by index arithmetic: one gather per array, no copy per sample."""

from __future__ import annotations

import dataclasses
import warnings
import weakref
from collections.abc import Collection

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from affectgrid.data.splits.resident import Split
from affectgrid.model.fusion import StreamInputs
from affectgrid.training.batches.order import take
from affectgrid.training.batches.resampling import Sampling
from affectgrid.windows import WindowIndex

Statistics = dict[str, tuple[Float[Tensor, " dim"], Float[Tensor, " dim"]]]
_BLOCK_ROWS = 1024  # in float64 these stay in the cache
_DEVICE_SHARE = 0.5  # of an accelerator's free memory that a split may take
# One process trains many models on one split. A split is never written to once training has begun.
_STATISTICS: weakref.WeakKeyDictionary[Split, Statistics] = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class Batch:
    """A batch of windows, padded to the longest of them.

    Args:
        streams: by name, the features [window, frame, dim], in the precision of the split, and whether the stream has
            the frame [window, frame].
        frame_mask: False after the end of a window that is shorter than the longest.
        va: labels; meaningless where `labelled` is False.
        labelled: frames whose label counts.
    """

    streams: StreamInputs
    frame_mask: Bool[Tensor, "window frame"]
    va: Float[Tensor, "window frame 2"]
    labelled: Bool[Tensor, "window frame"]


class Resident:
    """A split's arrays as tensors on one device. On the CPU they are the split's own memory, or its maps of files.

    A split too large for the accelerator stays in the host's memory, and its batches are copied (`on_host`; None: if it
    would take more than half of the free memory). `names` are the streams that the model reads; None: all. With a
    `sampling` every row number and every label below is that of a sample.
    """

    def __init__(
        self,
        split: Split,
        device: torch.device | str = "cpu",
        *,
        names: Collection[str] | None = None,
        sampling: Sampling | None = None,
        on_host: bool | None = None,
    ) -> None:
        self.split, self.sampling = split, sampling
        self.device = torch.device(device)
        host = _crowds(split, self.device) if on_host is None else on_host
        self.storage = torch.device("cpu") if host else self.device
        self.streams = {
            name: (_tensor(stream.feature, self.storage), _tensor(stream.present, self.storage))
            for name, stream in split.streams.items()
            if names is None or name in names
        }
        self.offsets = _tensor(split.offsets, torch.device("cpu"))
        self.va = _tensor(split.va, self.device)
        self.labelled = _tensor(split.labelled, self.device)
        if sampling is not None:
            self.offsets, taken = sampling.offsets, sampling.rows.to(self.device)
            self.va, self.labelled = self.va[taken], self.labelled[taken]

    def gather(
        self, index: WindowIndex, windows: Int[Tensor, " window"], counted: Bool[Tensor, " window"] | None = None
    ) -> Batch:
        """Those windows of `index`. Where `counted` is False a window only fills its place: its labels are left out."""
        start, stop = index.start[windows], index.stop[windows]
        rows = start[:, None] + torch.arange(int((stop - start).max()))
        mask = rows < stop[:, None]
        rows = torch.minimum(rows, stop[:, None] - 1)  # padding repeats the window's last row
        labelled = mask if counted is None else mask & counted[:, None]
        stored = (rows if self.sampling is None else self.sampling.rows[rows]).to(self.storage)
        rows = rows.to(self.device)
        mask, labelled = mask.to(self.device), labelled.to(self.device) & self.labelled[rows]
        return Batch(
            streams={
                name: (_rows(features, stored).to(self.device), present[stored].to(self.device) & mask)
                for name, (features, present) in self.streams.items()
            },
            frame_mask=mask,
            va=self.va[rows],
            labelled=labelled,
        )

    def statistics(self) -> Statistics:
        """Mean and standard deviation of every feature of each stream, over the rows that have it; 0 without any."""
        known = _STATISTICS.setdefault(self.split, {})
        for name, stream in self.streams.items():
            if name not in known:
                known[name] = _mean_and_deviation(*stream)
        return {name: (known[name][0].to(self.device), known[name][1].to(self.device)) for name in self.streams}

    def bounds_of(self, bounds: Int[Tensor, " bound"]) -> Int[Tensor, " bound"]:
        """The bounds of consecutive tracks here, given those of their rows in the split."""
        return bounds if self.sampling is None else self.sampling.bounds_of(self.split, bounds)

    def with_labels(self, index: WindowIndex) -> WindowIndex:
        """The windows that hold at least one labelled frame."""
        before = torch.nn.functional.pad(self.labelled.cpu().long().cumsum(0), (1, 0))
        return take(index, before[index.stop] > before[index.start])


def _crowds(split: Split, device: torch.device) -> bool:
    """Whether a split's features would take too much of an accelerator's memory."""
    if device.type != "cuda":
        return False
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return split.feature_bytes > _DEVICE_SHARE * free_bytes


def _rows(features: Float[Tensor, "row dim"], rows: Int[Tensor, "window frame"]) -> Float[Tensor, "window frame dim"]:
    """index_select copies whole rows; indexing by a matrix is slower on a CPU."""
    return features.index_select(0, rows.flatten()).view(*rows.shape, features.shape[1])


def _mean_and_deviation(features: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """One pass in blocks, whose moments are joined as Chan et al. (1979) do: the features may lie on a disk.

    Sums of squares would cancel; the squared distances from each block's own mean do not.
    """
    count = 0
    mean = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    scatter = torch.zeros_like(mean)
    for first in range(0, len(features), _BLOCK_ROWS):
        here = present[first : first + _BLOCK_ROWS]
        block = features[first : first + _BLOCK_ROWS][here].float().double()  # in two steps, both vectorised
        if not len(block):
            continue
        own_mean = block.sum(0) / len(block)
        own_scatter = block.sub_(own_mean).square_().sum(0)
        total = count + len(block)
        shift = own_mean - mean
        mean += shift * (len(block) / total)
        scatter += own_scatter + shift.square() * (count * len(block) / total)
        count = total
    return mean.float(), (scatter / max(count, 1)).sqrt().float()


def _tensor(array: NDArray[np.generic], device: torch.device) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="The given NumPy array is not writable"
        )  # shared memory; nobody writes
        return torch.from_numpy(array).to(device)
