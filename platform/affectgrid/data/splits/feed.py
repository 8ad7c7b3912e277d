"""How a split reaches training: arrays in memory, or memory-mapped files that hold the same arrays."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import psutil
from pydantic import Field

from affectgrid.data.splits.mapped import map_split
from affectgrid.data.splits.resident import Split, SplitPlan
from affectgrid.settings import Settings

_log = logging.getLogger(__name__)
_COPIES = 2  # copies of resident splits on a node: the reader's own, and the one that Ray's object store shares


class FeedOptions(Settings):
    """Whether features are held in memory or mapped from files. The numbers are the same."""

    mode: Literal["auto", "resident", "mapped"] = Field(
        "auto", description="resident: in memory; mapped: .npy files; auto: mapped above memory_share"
    )
    memory_share: float = Field(
        0.25, gt=0, le=1, description="auto: largest share of this machine's memory that resident splits may take"
    )
    folder: Path | None = Field(
        None, description="folder of the mapped files, on a local disk of every node; default: OUT/mapped"
    )

    def mapped(self, size_bytes: int, memory_bytes: int) -> bool:
        """Whether splits of this size are mapped on a machine with this much memory."""
        if self.mode != "auto":
            return self.mode == "mapped"
        return _COPIES * size_bytes > self.memory_share * memory_bytes


def feed(plans: Sequence[SplitPlan], options: FeedOptions, default_folder: Path) -> list[Split]:
    """The planned splits, all in memory or all mapped. The decision is logged unless the splits are small.

    Raises what `SplitPlan.fill` and `map_split` raise.
    """
    size, memory = sum(plan.size_bytes for plan in plans), memory_bytes()
    if not options.mapped(size, memory):
        return [plan.fill() for plan in plans]
    folder = options.folder or default_folder
    _log.warning(
        "features: %.2f GB mapped from %s (feed.mode %s, memory %.1f GB)",
        size / 1e9,
        folder,
        options.mode,
        memory / 1e9,
    )
    return [map_split(plan, folder) for plan in plans]


def memory_bytes() -> int:
    """Memory in bytes that this process may use: the machine's, or its container's where that is less."""
    total = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError):  # no control group, or "max"
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total
