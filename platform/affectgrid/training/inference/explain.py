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
from affectgrid.training.config import WindowConfig
from affectgrid.training.inference.predict import resident_for
from affectgrid.windows import WindowIndex

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class FusionView:
    """What a model's fusion blocks did in one window.

    Args:
        track: its name.
        time_s: of each frame.
        streams: their names, the pivot's first.
        shares: for each block that has a gate, the share of each stream in what it fused, as the mean over the
            channels; they sum to 1.
        attention: for each block that attends, the mean over the heads of what one stream takes of each frame of
            another, by (asking, asked); rows sum to 1.
    """

    track: str
    time_s: Float[Array, " frame"]
    streams: tuple[str, ...]
    shares: tuple[Float[Array, "stream frame"], ...]
    attention: tuple[dict[tuple[str, str], Float[Array, "frame frame"]], ...]


@torch.no_grad()
def look_inside(model: FusionModel, split: Split, track: str, window: WindowConfig) -> FusionView | None:
    """The first window of a track; None where the model has no fusion block. The model is left in evaluation mode."""
    if not model.config.fuses:
        return None
    resident = resident_for(model.config, window, split, next(model.parameters()).device)
    number = split.track_ids.index(track)
    start, end = resident.offsets[number : number + 2].tolist()
    stop = min(end, start + window.length)
    batch = resident.gather(WindowIndex.over([start, stop], window.length, window.stride), torch.zeros(1).long())
    output = model.eval()(batch.streams, batch.frame_mask, return_gates=True, return_attention=True)
    frames = stop - start
    shares = [gate[0, :, :frames].mean(-1) for gate in output.gates]
    maps = [
        {pair: _array(weights[0, :, :frames, :frames].mean(0)) for pair, weights in block.items()}
        for block in output.attention
    ]
    rows = slice(start, stop) if resident.sampling is None else resident.sampling.rows[start:stop].numpy()
    order, time_s = model.config.fused_order, split.time_s[rows]
    return FusionView(track, time_s, order, tuple(_array(share) for share in shares), tuple(maps))


def _array(values: Tensor) -> Array:
    found: Array = values.float().cpu().numpy()
    return found
