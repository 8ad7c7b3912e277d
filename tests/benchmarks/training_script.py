"""The training script that a researcher writes: one .npy per video, a DataLoader with two workers, a window a sample.

It is written with the usual care: arrays are float16 and memory-mapped, workers persist, batches are prefetched.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from affectgrid.data.splits.resident import Split
from affectgrid.training.batches import Batch


def write_videos(split: Split, folder: Path) -> None:
    """What such a script reads: three files per video."""
    folder.mkdir()
    for number, name in enumerate(split.track_ids):
        rows = split.track(number)
        np.save(folder / f"{name}.visual.npy", split.streams["visual"].feature[rows])
        np.save(folder / f"{name}.audio.npy", split.streams["audio"].feature[rows])
        present = [split.streams[name].present[rows, None] for name in ("visual", "audio")]
        labels = np.concatenate([split.va[rows], split.labelled[rows, None], *present], 1)
        np.save(folder / f"{name}.labels.npy", labels.astype(np.float32))


class WindowDataset(Dataset):
    """Windows of `length` frames every `stride`, padded with zeros."""

    def __init__(self, folder: Path, length: int, stride: int):
        self.folder, self.length = folder, length
        self.windows = []
        for path in sorted(folder.glob("*.labels.npy")):
            name, count = path.name.removesuffix(".labels.npy"), len(np.load(path, mmap_mode="r"))
            last = max(count - length, 0)
            self.windows += [(name, start) for start in (*range(0, last, stride), last)]

    def __len__(self):
        return len(self.windows)

    def __getitem__(self, index):
        name, start = self.windows[index]
        parts = []
        for kind in ("visual", "audio", "labels"):
            array = np.load(self.folder / f"{name}.{kind}.npy", mmap_mode="r")[start : start + self.length]
            padded = np.zeros((self.length, array.shape[1]), np.float32)
            padded[: len(array)] = array
            parts.append(torch.from_numpy(padded))
        mask = torch.arange(self.length) < len(array)
        return *parts, mask


def loader(folder: Path, length: int, stride: int, batch_size: int) -> DataLoader:
    """Two workers."""
    torch.manual_seed(0)
    return DataLoader(
        WindowDataset(folder, length, stride), batch_size, shuffle=True, num_workers=2, persistent_workers=True
    )


def as_batch(parts: list[torch.Tensor]) -> Batch:
    """What the loader gives, as the model takes it."""
    visual, audio, labels, mask = parts
    labelled, seen, heard = (labels[..., column] > 0 for column in (2, 3, 4))
    return Batch({"visual": (visual, seen), "audio": (audio, heard)}, mask, labels[..., :2], labelled)
