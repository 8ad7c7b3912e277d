"""What makes two runs the same run."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from affectgrid.data.resident import Split
from affectgrid.training.config import TrainConfig
from affectgrid.training.prompts import EncodedPrompts


def run_identity(config: TrainConfig, train: Split, validation: Split, prompts: EncodedPrompts) -> str:
    """Changes with everything that a run's weights depend on: configuration, prompts, tracks, labels and encoders."""
    facts = [config.model_dump_json(), prompts.name, prompts.grid.centres]
    facts += [[split.name, list(split.track_ids), sorted(split.encoders.items())] for split in (train, validation)]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for split in (train, validation):
        for array in (split.offsets, split.va, split.labelled):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
