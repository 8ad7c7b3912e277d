"""What joins the streams: cross-modal attention between a pivot and each other stream, then a gate over all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from affectgrid.model.attention import CrossModalLayer, Sight
from affectgrid.model.config import FusionConfig

Frames = Float[Tensor, "batch frame hidden"]
Present = Mapping[str, Bool[Tensor, "batch frame"]]
Weights = Float[Tensor, "batch head frame frame"]
AttentionMaps = dict[tuple[str, str], Weights]  # by the stream that asks and the one that is asked


class GatedFusion(nn.Module):
    """g = sigmoid(W [p; o]) and f = g p + (1 - g) o, for every frame and every channel; p is the pivot."""

    def __init__(self, hidden_dim: int, log_odds: float = 0.0) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * hidden_dim, hidden_dim)
        self.log_odds = log_odds  # of the priors

    def forward(self, pivot: Frames, other: Frames) -> tuple[Frames, Frames]:
        """Returns the fused state and the gate in (0, 1): 1 takes the pivot, 0 the other stream."""
        logits = self.gate(torch.cat([pivot, other], -1))
        gate = torch.sigmoid(logits + self.log_odds if self.log_odds else logits)
        return other + gate * (pivot - other), gate


class SoftmaxFusion(nn.Module):
    """Shares s = softmax(W [x_1; ...; x_n] + log prior) over the streams that a frame has, and f = sum_i s_i x_i.

    For every frame and every channel. A frame without any stream takes the mean of their stand-ins by their shares.
    """

    log_priors: Tensor

    def __init__(self, hidden_dim: int, priors: Sequence[float]) -> None:
        super().__init__()
        self.gate = nn.Linear(len(priors) * hidden_dim, len(priors) * hidden_dim)
        self.register_buffer("log_priors", torch.tensor(priors).log()[:, None], persistent=False)

    def forward(
        self, states: Float[Tensor, "stream batch frame hidden"], present: Bool[Tensor, "stream batch frame"]
    ) -> tuple[Frames, Float[Tensor, "stream batch frame hidden"]]:
        """Returns the fused state and the shares, which sum to 1 over the streams."""
        logits = torch.stack(self.gate(torch.cat(tuple(states), -1)).chunk(len(states), -1))
        logits = logits + self.log_priors[:, None, None]
        left_out = ~present & present.any(0)
        shares = torch.softmax(logits.masked_fill(left_out.unsqueeze(-1), -torch.inf), 0)
        return (shares * states).sum(0), shares


class FusionBlock(nn.Module):
    """Cross-modal attention between the pivot and each other stream, then gated refinement; either may be left out.

    The pivot asks the other streams one after another; they ask the pivot's state from before the block, so that
    neither direction comes first. The gated state is handed back to all streams as a residual, so that the next block
    refines what this one fused (our reading of "hierarchical"; the paper's wiring is not public).
    """

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        size, rotary = (config.hidden_dim, config.num_heads, config.dropout), config.positions == "rotary"
        self.pivot, *self.others = config.fused_order
        self.attends = config.fusion in ("both", "attention")
        if self.attends:
            for asking, asked in self._pairs():
                self.add_module(self._name(asking, asked), CrossModalLayer(*size, rotary=rotary))
        self.gated: GatedFusion | SoftmaxFusion | None = None
        if config.fusion in ("both", "gate"):
            self.gated = _gate(config)

    def forward(
        self, states: Mapping[str, Frames], sights: Mapping[str, Sight], present: Present
    ) -> tuple[dict[str, Frames], Frames | None, Tensor | None]:
        """Returns the streams, the fused state, and the gate or the shares; the last two are None without a gate.

        `sights` has what may be seen of each stream; it is needed where the block attends.
        """
        states = self._attend(states, sights, None) if self.attends else dict(states)
        if self.gated is None:
            return states, None, None
        order = (self.pivot, *self.others)
        if isinstance(self.gated, GatedFusion):
            fused, gate = self.gated(*(states[name] for name in order))
        else:
            seen = torch.stack([present[name] for name in order])
            fused, gate = self.gated(torch.stack([states[name] for name in order]), seen)
        return {name: state + fused for name, state in states.items()}, fused, gate

    def attention_weights(self, states: Mapping[str, Frames], sights: Mapping[str, Sight]) -> AttentionMaps | None:
        """How the block that is given these states attends; None where it does not."""
        if not self.attends:
            return None
        found: AttentionMaps = {}
        self._attend(states, sights, found)
        return found

    def _attend(
        self, states: Mapping[str, Frames], sights: Mapping[str, Sight], found: AttentionMaps | None
    ) -> dict[str, Frames]:
        before, after = states, dict(states)
        for asking, asked in self._pairs():
            layer = cast(CrossModalLayer, getattr(self, self._name(asking, asked)))
            if found is not None:
                found[asking, asked] = layer.attention_weights(after[asking], before[asked], sights[asked])
            after[asking] = layer(after[asking], before[asked], sights[asked])
        return after

    def _pairs(self) -> list[tuple[str, str]]:
        """Who asks whom, in order."""
        return [(self.pivot, other) for other in self.others] + [(other, self.pivot) for other in self.others]

    def _name(self, asking: str, asked: str) -> str:
        """The name of a layer, with which weights are saved; short where there is one other stream to ask."""
        return f"{asking}_asks" if asking != self.pivot or len(self.others) == 1 else f"{asking}_asks_{asked}"


def _gate(config: FusionConfig) -> GatedFusion | SoftmaxFusion:
    priors = config.priors_in_order
    if len(priors) == 2:
        first, second = torch.tensor(priors, dtype=torch.float64).log().tolist()
        return GatedFusion(config.hidden_dim, first - second)
    return SoftmaxFusion(config.hidden_dim, priors)


def shares_of(gate: Tensor) -> Float[Tensor, "batch stream frame hidden"]:
    """What a block returns as its gate, as the share of every stream, the pivot's first."""
    return torch.stack([gate, 1 - gate], 1) if gate.ndim == 3 else gate.transpose(0, 1)
