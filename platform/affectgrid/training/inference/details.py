"""What stands behind each frame's prediction: the regions' probabilities, and how far each stream is trusted."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from affectgrid.data.splits.resident import Split
from affectgrid.training.inference.package import ModelPackage
from affectgrid.training.inference.predict import merge_tracks, resident_for


def frame_details(package: ModelPackage, split: Split) -> dict[str, Float[np.ndarray, " row"]]:
    """For every row, by column: ``region_<name>``, which sum to 1, and ``share_<stream>``, which do too.

    Not smoothed. Without the ones where the model has no prompt head, and the others where no block has a gate.
    """
    model, window, bounds = package.model, package.config.window, torch.as_tensor(split.offsets)
    resident = resident_for(model.config, window, split)
    merged = merge_tracks(model, resident, bounds, window, details=True)[:, 2:]
    if resident.sampling is not None:
        merged = resident.sampling.to_rows(merged, split, bounds)
    regions = [f"region_{name.replace(' ', '_')}" for name in package.grid.names] if model.prompt_head else []
    names = regions + [f"share_{name}" for name in model.config.fused_order]
    return {name: column.numpy() for name, column in zip(names, merged.unbind(1), strict=False)}
