"""A grid of regions with the text features of each, as training takes them."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from affectgrid.model.context import ContextWords
from affectgrid.regions import RegionGrid


@dataclasses.dataclass(frozen=True)
class EncodedPrompts:
    """A prompt file after the text encoder.

    Args:
        name: the name of the prompt file.
        grid: the regions.
        texts_features: for each region, in the grid's order, its texts' features [text, dim].
        words: the first text of each region before the text encoder, and the encoder: for the mode `context` alone.
    """

    name: str
    grid: RegionGrid
    texts_features: tuple[Tensor, ...]
    words: ContextWords | None = None

    def __post_init__(self) -> None:
        if len(self.texts_features) != self.grid.num_regions:
            raise ValueError(f"{self.name}: {len(self.texts_features)} texts for {self.grid.num_regions} regions")
