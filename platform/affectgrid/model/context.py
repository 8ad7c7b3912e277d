"""Learnable context: vectors that stand before the words of a region's text, in a frozen text encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from affectgrid.errors import ConfigError, Problem

INITIAL_DEVIATION = 0.02  # of a context vector's entries, as CoOp draws them


@dataclasses.dataclass(frozen=True, eq=False)
class ContextWords:
    """The text of every region as a frozen text tower reads it: embedded, but not yet placed.

    Args:
        tower: gives the features of embedded tokens, read up to each text's end token. Frozen; gradients pass through.
        embeddings: start token, words, end token and padding of every region's text.
        ends: where the end token is.
        max_tokens: the longest text that the tower reads.
    """

    tower: nn.Module
    embeddings: Float[Tensor, "region token width"]
    ends: Int[Tensor, " region"]
    max_tokens: int

    def to(self, device: torch.device) -> ContextWords:
        """The same on `device`; the tower itself is moved, as all models of a process share it."""
        moved = (self.tower.to(device), self.embeddings.to(device), self.ends.to(device))
        return ContextWords(*moved, self.max_tokens)

    def __deepcopy__(self, memo: dict[int, Any]) -> ContextWords:
        """Nothing here ever changes, so the copies of a model share it."""
        return self


class RegionContext(nn.Module):
    """CoOp (Zhou et al., IJCV 2022): `[start] v_1 ... v_m [words] [end]` through the frozen tower, for every region.

    The vectors are shared by all regions, or each region has its own. They alone are parameters: the tower is no
    submodule, so neither a checkpoint nor an optimizer nor a wrapper for several workers ever meets its weights.
    The tower runs once per call for all regions together, whatever the number of frames.

    Raises ConfigError (CFG-CONTEXT) where vectors and words together are longer than the tower reads.
    """

    def __init__(self, words: ContextWords, num_tokens: int, *, shared: bool, seed: int) -> None:
        super().__init__()
        num_regions, _, width = words.embeddings.shape
        longest = int(words.ends.max()) + 1
        if longest + num_tokens > words.max_tokens:
            raise ConfigError(
                Problem(
                    "CFG-CONTEXT",
                    where="prompt.context_tokens",
                    found=f"{num_tokens} context tokens before a text of {longest}",
                    expected=f"at most {words.max_tokens} tokens together: the text encoder reads no more",
                    hint="lower prompt.context_tokens or shorten the texts of the prompt file",
                )
            )
        size = (num_tokens, width) if shared else (num_regions, num_tokens, width)
        generator = torch.Generator().manual_seed(seed)
        self.vectors = nn.Parameter(INITIAL_DEVIATION * torch.randn(size, generator=generator))
        self._words = dataclasses.replace(words, embeddings=words.embeddings[:, :longest])  # no token reads a later one

    def forward(self) -> Float[Tensor, "region dim"]:
        """Features of every region's text, not normalised."""
        embeddings = self._words.embeddings
        context = self.vectors.expand(len(embeddings), -1, -1)
        placed = torch.cat([embeddings[:, :1], context.to(embeddings.dtype), embeddings[:, 1:]], 1)
        features: Tensor = self._words.tower(placed, self._words.ends + context.shape[1])
        return features

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RegionContext:
        """What moves the vectors to a device takes the words and the tower along."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._words = self._words.to(self.vectors.device)
        return self
