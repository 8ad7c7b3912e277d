"""Inside the fusion of one window: how far each stream is trusted, and which frames attend to which."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from affectgrid.data.splits.resident import Split
from affectgrid.model.fusion import FusionModel
from affectgrid.training.batches import Resident
from affectgrid.training.config import WindowConfig
from affectgrid.windows import WindowIndex

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class FusionView:
    """What a model's fusion blocks did in one window.

    Args:
        track: its name.
        time_s: of each frame.
        gates: for each block that has a gate, the mean over its channels: 1 takes the picture, 0 the sound.
        attention: for each block that attends, the mean over the heads of what the picture takes of each frame of the
            sound, and the sound of the picture's; rows sum to 1.
    """

    track: str
    time_s: Float[Array, " frame"]
    gates: Float[Array, "block frame"]
    attention: Float[Array, "block 2 frame frame"]


@torch.no_grad()
def look_inside(model: FusionModel, split: Split, track: str, window: WindowConfig) -> FusionView | None:
    """The first window of a track; None where the model has no fusion block. The model is left in evaluation mode."""
    if not model.config.fuses:
        return None
    rows = split.track(split.track_ids.index(track))
    stop = min(rows.stop, rows.start + window.length)
    resident = Resident(split, next(model.parameters()).device)
    batch = resident.gather(WindowIndex.over([rows.start, stop], window.length, window.stride), torch.zeros(1).long())
    output = model.eval()(
        batch.visual,
        batch.visual_present,
        batch.audio,
        batch.audio_present,
        batch.frame_mask,
        return_gates=True,
        return_attention=True,
    )
    frames = stop - rows.start
    gates = [gate[0, :frames].mean(-1) for gate in output.gates]
    pairs = [torch.stack([weights[0, :, :frames, :frames].mean(0) for weights in pair]) for pair in output.attention]
    time_s = split.time_s[rows.start : stop]
    return FusionView(track, time_s, _stacked(gates, (0, frames)), _stacked(pairs, (0, 2, frames, frames)))


def _stacked(parts: list[Tensor], empty: tuple[int, ...]) -> Array:
    return torch.stack(parts).float().cpu().numpy() if parts else np.zeros(empty, dtype=np.float32)
