"""What every way of loading an image model ends in."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from affectgrid.encoders.preprocess import ImagePreprocess


@dataclasses.dataclass(frozen=True)
class LoadedImageModel:
    """An image model, untouched.

    Args:
        model: its call, or its ``encode_image``, turns normalised pictures [n, 3, size, size] into features [n, dim].
        tokenizer: of its text tower; None for an image tower alone.
        preprocess: any picture to its square.
        mean, std: of its training's pictures, in [0, 1], by channel.
        settings: what changes the features beside the weights; part of the digest.
    """

    model: nn.Module
    tokenizer: Any
    preprocess: ImagePreprocess
    mean: tuple[float, ...]
    std: tuple[float, ...]
    settings: dict[str, Any]
