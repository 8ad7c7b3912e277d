"""What stands beside each frame's prediction, and the columns of a table of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from affectgrid.data.export import Fill, without_faces
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.splits.resident import Split
from affectgrid.training.inference.package import ModelPackage
from affectgrid.training.inference.predict import merge_tracks, resident_for

BOX = ("face_left", "face_top", "face_right", "face_bottom", "face_score")  # in pixels, and the detector's score


def detail_names(package: ModelPackage) -> list[str]:
    """The columns of `frame_details`."""
    config = package.model.config
    regions = [f"region_{name.replace(' ', '_')}" for name in package.grid.names] if package.model.prompt_head else []
    gated = config.fuses and config.fusion != "attention"
    return regions + ([f"share_{name}" for name in config.fused_order] if gated else [])


def frame_details(package: ModelPackage, split: Split) -> dict[str, Float[np.ndarray, " row"]]:
    """For every row, by column: ``region_<name>``, which sum to 1, and ``share_<stream>``, which do too.

    Not smoothed. Without the ones where the model has no prompt head, and the others where no block has a gate.
    """
    model, window, bounds = package.model, package.config.window, torch.as_tensor(split.offsets)
    resident = resident_for(model.config, window, split)
    merged = merge_tracks(model, resident, bounds, window, details=True)[:, 2:]
    if resident.sampling is not None:
        merged = resident.sampling.to_rows(merged, split, bounds)
    return {name: column.numpy() for name, column in zip(detail_names(package), merged.unbind(1), strict=True)}


def face_boxes(store: FeatureStore, fingerprint: str, split: Split) -> dict[str, Float[np.ndarray, " row"]]:
    """Of every row, by column: where its face is, and the detector's score; none where faces were not looked for."""
    rows = np.full((split.num_frames, len(BOX)), np.nan, np.float32)
    for number, track in enumerate(split.track_ids):
        table = store.read("visual", fingerprint, track)
        if table.box is not None:
            own = rows[split.track(number)]  # a view
            here = table.frame_index <= len(own)
            own[table.frame_index[here] - 1] = table.box[here]
    return {} if np.isnan(rows).all() else dict(zip(BOX, rows.T, strict=True))


def track_columns(
    split: Split,
    number: int,
    va: Float[np.ndarray, "row 2"],
    found: Bool[np.ndarray, " row"] | None,
    details: Mapping[str, Float[np.ndarray, " row"]],
    fill: Fill | None,
) -> dict[str, NDArray[Any]]:
    """The table of one track: ``frame time_s valence arousal``, ``face_found`` where faces were looked for, `details`.

    Args:
        va: predictions of every row of the split.
        found: where a face was found; None where none was looked for.
        details: further columns.
        fill: what frames without a face are given; None: nothing.
    """
    rows = split.track(number)
    own = va[rows] if found is None else without_faces(va[rows], found[rows], fill)
    columns: dict[str, NDArray[Any]] = {"frame": split.frame_index[rows], "time_s": split.time_s[rows]}
    columns |= {"valence": own[:, 0], "arousal": own[:, 1]}
    if found is not None:
        columns["face_found"] = found[rows].astype(np.float32)
    return columns | {name: column[rows] for name, column in details.items()}
