"""The network of a sound encoder: a transformers model, and what is taken of its states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from affectgrid.settings import AudioPooling


class SoundFeatures(nn.Module):
    """One feature vector a window: the model's pooled output when it has one, else the mean of its last states.

    With `pooling` other than ``model``: of all tokens of hidden layer `layer` (None: the last states) the mean, or that
    and the standard deviation. `names` are those of the model's inputs, in order.
    """

    def __init__(self, model: Any, names: Sequence[str], *, layer: int | None, pooling: AudioPooling) -> None:
        super().__init__()
        self.model, self._names = model, tuple(names)
        self._layer, self._pooling = layer, pooling

    def forward(self, *inputs: Tensor) -> Tensor:
        """Features [n, dim] of the inputs of n windows."""
        given = dict(zip(self._names, inputs, strict=True))
        output = self.model(**given, output_hidden_states=self._layer is not None)
        states: Tensor = output.last_hidden_state
        if self._pooling == "model":
            pooled: Tensor | None = getattr(output, "pooler_output", None)
            return states.mean(dim=1) if pooled is None else pooled
        if self._layer is not None:
            states = output.hidden_states[self._layer]
        states = states.float()
        mean = states.mean(dim=1)
        return mean if self._pooling == "mean" else torch.cat([mean, states.std(dim=1, correction=0)], -1)
