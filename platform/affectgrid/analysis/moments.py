"""The moments that the trials of a study left: enough for pooled CCCs of any choice of videos."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from affectgrid.search.study.records import MOMENTS
from affectgrid.storage.working_copy import WorkingCopy

TrialMoments = Mapping[int, Float[Tensor, "seed video stat 2"]]  # by the number of the trial


def read_moments(study: WorkingCopy) -> dict[int, Float[Tensor, "seed video stat 2"]]:
    """Of every trial that trained to its end; nothing of trials that ended before such files were written."""
    folder = study.folder / "trials"
    study.fetch_named(folder, (MOMENTS,))
    found = {int(path.parent.name): json.loads(path.read_text()) for path in sorted(folder.glob(f"*/{MOMENTS}"))}
    return {
        number: torch.tensor(list(by_seed.values()), dtype=torch.float64)
        for number, by_seed in found.items()
        if by_seed
    }
