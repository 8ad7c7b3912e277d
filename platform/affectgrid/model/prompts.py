"""The prompt head: a frame's state compared with the text of every region, as CLIP compares an image with captions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from affectgrid.model.config import PromptMode
from affectgrid.model.context import RegionContext

INITIAL_SCALE = 1 / 0.07  # CLIP's initial inverse temperature
MAX_SCALE = 100.0  # and its clamp (Radford et al., ICML 2021)
MIN_NORM = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class PromptBank:
    """What the prompt head compares frames with: one vector per region.

    Args:
        features: unit vectors, in region order.
        learnable: whether training moves them.
        context: what makes them anew at every step while it trains; None: nothing does.
    """

    features: Float[Tensor, "region dim"]
    learnable: bool = False
    context: RegionContext | None = None

    @classmethod
    def from_context(cls, context: RegionContext) -> PromptBank:
        """The bank of the mode `context`."""
        with torch.no_grad():
            return cls(normalize(context().float(), dim=-1), context=context)

    @classmethod
    def build(cls, texts: Sequence[Float[Tensor, "text dim"]], mode: PromptMode, seed: int) -> PromptBank | None:
        """The bank of a prompt mode, or None for `none`; see `build_prompt_features`. `context`: see `from_context`."""
        features = build_prompt_features(texts, mode, seed)
        return None if features is None else cls(features, learnable=mode == "learned")

    @classmethod
    def blank(cls, num_regions: int, dim: int, *, learnable: bool = False) -> PromptBank:
        """A bank of the right shape, to be filled by loading a saved model."""
        return cls(torch.zeros(num_regions, dim), learnable)


def build_prompt_features(
    texts: Sequence[Float[Tensor, "text dim"]], mode: PromptMode, seed: int
) -> Float[Tensor, "region dim"] | None:
    """One unit vector per region from the encoded texts of every region, in region order.

    `fixed`: the first text alone. `ensemble`: the mean of the normalised texts. `shuffled`: the ensemble, handed to the
    regions by a derangement, so that no region keeps its own. `rotated`: the ensemble turned at random as a whole, so
    that every angle between two regions stays and nothing else of the texts does; logits depend on the texts through
    these angles alone, as the projection before them is learnt. `learned`: random directions, no text. `none`: None.
    `seed` draws `shuffled`, `rotated` and `learned`. Raises ValueError if a region has no text, and for `context`,
    which is made of other things.
    """
    if mode == "context":
        raise ValueError("the features of learnable context come from the text encoder: see PromptBank.from_context")
    if mode == "none":
        return None
    if not texts or any(not len(region) for region in texts):
        raise ValueError("every region needs at least one text")
    generator = torch.Generator().manual_seed(seed)
    if mode == "learned":
        return normalize(torch.randn(len(texts), texts[0].shape[-1], generator=generator), dim=-1)
    if mode == "fixed":
        return normalize(torch.stack([region[0] for region in texts]).float(), dim=-1)
    means = torch.stack([normalize(region.float(), dim=-1).mean(0) for region in texts])
    ensemble = normalize(means, dim=-1)
    if mode == "rotated":
        return normalize(ensemble @ _rotation(ensemble.shape[1], generator), dim=-1)
    return ensemble[derangement(len(texts), generator)] if mode == "shuffled" else ensemble


def _rotation(dim: int, generator: torch.Generator) -> Float[Tensor, "dim dim"]:
    """An orthogonal matrix, drawn evenly from all (Mezzadri, 2007)."""
    q, r = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    rotation: Tensor = (q * r.diagonal().sign()).float()
    return rotation


def derangement(n: int, generator: torch.Generator) -> Int[Tensor, n]:
    """A uniform random permutation of n >= 2 without a fixed point, by rejection (about e draws)."""
    if n < 2:
        raise ValueError(f"no derangement of {n}")
    identity = torch.arange(n)
    while True:
        order = torch.randperm(n, generator=generator)
        if not bool((order == identity).any()):
            return order


class PromptHead(nn.Module):
    """Region logits: scale * cos(project(state), text of the region).

    Frozen text features are a buffer, so a saved model needs no text encoder; learnable ones are a parameter of the
    same name. With learnable context they are computed at every step of training, and put into the buffer when the
    model turns to evaluation. The scale is learnt as its logarithm and held at or below 100.
    """

    text_features: Tensor

    def __init__(
        self,
        hidden_dim: int,
        text_features: Float[Tensor, "region dim"],
        *,
        learnable: bool,
        context: RegionContext | None = None,
    ) -> None:
        super().__init__()
        self.project = nn.Linear(hidden_dim, text_features.shape[-1])
        self.log_scale = nn.Parameter(torch.tensor(math.log(INITIAL_SCALE)))
        features = text_features.detach().clone().float()
        if learnable:
            self.text_features = nn.Parameter(features)
        else:
            self.register_buffer("text_features", features)
        self.context = context

    @property
    def scale(self) -> Float[Tensor, ""]:
        """At most MAX_SCALE, also after the last step of a training, which nothing clamps."""
        return self.log_scale.exp() if self.training else self.log_scale.clamp(max=math.log(MAX_SCALE)).exp()

    def forward(self, states: Float[Tensor, "batch frame hidden"]) -> Float[Tensor, "batch frame region"]:
        if self.training:
            with torch.no_grad():  # on the parameter, as CLIP does: clamping the value would end its gradient for good
                self.log_scale.clamp_(max=math.log(MAX_SCALE))
        with torch.autocast(states.device.type, enabled=False):  # a norm out of a bfloat16 Gram matrix is too coarse
            texts = self.context() if self.training and self.context is not None else self.text_features
            return self.scale * self._cosines(states.float(), texts.float())

    def train(self, mode: bool = True) -> PromptHead:
        """Turning to evaluation, one pass of the text encoder serves every prediction that follows."""
        super().train(mode)
        if not mode and self.context is not None:
            with torch.no_grad(), torch.autocast(self.text_features.device.type, enabled=False):
                self.text_features.copy_(normalize(self.context().float(), dim=-1))
        return self

    def _cosines(
        self, states: Float[Tensor, "batch frame hidden"], texts: Float[Tensor, "region dim"]
    ) -> Float[Tensor, "batch frame region"]:
        """cos(W h + b, t_k) without the [frame, text dim] projection, which would cost more than the fusion.

        With h' = [h, 1] and W' = [W, b]: the dot product is h' . (W'^T t_k), the squared norm h'^T (W'^T W') h'.
        """
        weight = torch.cat([self.project.weight, self.project.bias.unsqueeze(1)], 1)
        extended = pad(states, (0, 1), value=1.0)
        dots = extended @ (normalize(texts, dim=-1) @ weight).T
        squared_norms = (extended @ (weight.T @ weight) * extended).sum(-1, keepdim=True)
        return dots * squared_norms.clamp(min=MIN_NORM**2).rsqrt()
