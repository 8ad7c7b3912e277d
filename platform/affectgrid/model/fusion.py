"""The model: each stream over time, hierarchical fusion, and the two heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from affectgrid.model.attention import Sight
from affectgrid.model.blocks import AttentionMaps, FusionBlock, shares_of
from affectgrid.model.config import FusionConfig
from affectgrid.model.dropout import LockedDropout
from affectgrid.model.labels import LearnedSigma
from affectgrid.model.prompts import PromptBank, PromptHead
from affectgrid.model.readout import Readout
from affectgrid.model.streams import StreamInput, drop_stream
from affectgrid.model.temporal.convolution import ConvolutionalEncoder
from affectgrid.model.temporal.recurrent import FrameOrder, TemporalEncoder
from affectgrid.model.temporal.state_space import StateSpaceEncoder
from affectgrid.model.temporal.transformer import TransformerEncoder

CONTEXT = "prompt_head.context."  # what the names of the weights of learnable context begin with
# by the name of a stream: its features [batch, frame, dim] of any float type, and whether each frame has it
StreamInputs = Mapping[str, tuple[Float[Tensor, "batch frame dim"], Bool[Tensor, "batch frame"]]]


class FusionOutput(NamedTuple):
    """The model's output for every frame; meaningless where `frame_mask` is false.

    Args:
        va: valence and arousal in (-1, 1).
        region_logits: None without prompts.
        gates: per fusion block the share of each stream in the fused state, in the order of ``fused_order``; they sum
            to 1. None unless asked for, empty where no block has a gate.
        attention: per fusion block what each stream takes of the frames of another one, by (asking, asked); None unless
            asked for, empty where no block attends.
        sigma: widths of the soft labels where they are learnt. Here, so that it passes through what wraps the model for
            several workers, which only then joins its gradients.
    """

    va: Float[Tensor, "batch frame 2"]
    region_logits: Float[Tensor, "batch frame region"] | None
    gates: list[Float[Tensor, "batch stream frame hidden"]] | None
    attention: list[AttentionMaps] | None = None
    sigma: Float[Tensor, " axis"] | None = None


class FusionModel(nn.Module):
    """Valence, arousal and region logits for every frame of a batch of windows.

    Masked frames influence no other frame. Where a stream is absent a learned token stands in for it. In a causal
    configuration no frame depends on a later one. `readout` mixes the regions into what is predicted, in evaluation
    alone: each head learns from its own loss.
    """

    def __init__(
        self,
        config: FusionConfig,
        *,
        feature_dims: Mapping[str, int],
        prompts: PromptBank | None = None,
        sigma: LearnedSigma | None = None,
        readout: Readout | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_dim
        self.inputs = nn.ModuleDict({s: StreamInput(feature_dims[s], hidden, config.dropout) for s in config.streams})
        self.temporal = _build_temporal(config)
        self.blocks = nn.ModuleList(FusionBlock(config) for _ in range(config.fusion_depth if config.fuses else 0))
        joins = len(config.streams) > 1 and not (config.fuses and config.fusion != "attention")
        self.join = nn.Linear(len(config.streams) * hidden, hidden) if joins else None
        self.norm = nn.LayerNorm(hidden)
        self.dropout = LockedDropout(config.dropout)
        self.va_head = nn.Linear(hidden, 2)
        self.prompt_head = (
            None
            if prompts is None
            else PromptHead(hidden, prompts.features, learnable=prompts.learnable, context=prompts.context)
        )
        self.sigma, self.readout = sigma, readout

    @property
    def feature_dims(self) -> dict[str, int]:
        """Length of a feature of every stream that the model reads."""
        return {name: entry.project.in_features for name, entry in self.inputs.items()}  # type: ignore[union-attr, misc]

    def standardise(self, statistics: Mapping[str, tuple[Float[Tensor, " dim"], Float[Tensor, " dim"]]]) -> None:
        """Take each stream's mean and standard deviation over the training frames; other streams are ignored."""
        for stream in self.config.streams:
            entry = self.inputs[stream]
            assert isinstance(entry, StreamInput)
            entry.standardise(*statistics[stream])

    def forward(
        self,
        streams: StreamInputs,
        frame_mask: Bool[Tensor, "batch frame"],
        *,
        attention_reach: int = 0,
        return_gates: bool = False,
        return_attention: bool = False,
    ) -> FusionOutput:
        """Features are not read where absent or masked; streams that the model does not know are ignored.

        `attention_reach` limits attention to so many frames on each side where the configuration has no narrower span:
        for tracks longer than the windows of the training; 0: no limit.
        """
        present = {name: streams[name][1] & frame_mask for name in self.config.fused_order}
        if self.training and self.config.modality_dropout and len(present) > 1:
            present = drop_stream(present, self.config.modality_dropout)
        states = torch.stack([self.inputs[name](streams[name][0], present[name]) for name in self.config.streams])
        if self.temporal is not None:
            states = self._over_time(states, frame_mask, attention_reach)
        attention: list[AttentionMaps] | None = [] if return_attention else None
        sights = self._sights(present, attention_reach)
        fused, gates = self._fuse(dict(zip(self.config.streams, states, strict=True)), sights, present, attention)
        fused = self.dropout(self.norm(fused))
        va = torch.tanh(self.va_head(fused))
        logits = None if self.prompt_head is None else self.prompt_head(fused)
        if self.readout is not None and logits is not None and not self.training:
            va = self.readout(va, logits)
        sigma = None if self.sigma is None else self.sigma()
        shares = [shares_of(gate) for gate in gates] if return_gates else None
        return FusionOutput(va, logits, shares, attention, sigma)

    def _over_time(self, states: Tensor, frame_mask: Tensor, reach: int) -> Tensor:
        if isinstance(self.temporal, TransformerEncoder):
            attended: Tensor = self.temporal(states, self._sight(frame_mask, reach))
            return attended
        assert self.temporal is not None
        followed: Tensor = self.temporal(states, FrameOrder.of(frame_mask))
        return followed

    def _sight(self, seen: Tensor, reach: int) -> Sight:
        span = min((limit for limit in (self.config.attention_span, reach) if limit), default=0)
        return Sight.over(seen, span=span, causal=self.config.causal)

    def _sights(self, present: Mapping[str, Tensor], reach: int) -> dict[str, Sight]:
        """What others see of each stream: the frames that are there."""
        if not self.blocks or self.config.fusion == "gate":
            return {}
        return {name: self._sight(seen, reach) for name, seen in present.items()}

    def _fuse(
        self,
        states: dict[str, Tensor],
        sights: Mapping[str, Sight],
        present: Mapping[str, Tensor],
        attention: list[AttentionMaps] | None,
    ) -> tuple[Tensor, list[Tensor]]:
        """One state per frame from those of the streams, and the gates on the way; fills `attention` if it is there."""
        if len(states) == 1:
            return next(iter(states.values())), []
        fused, gates = None, []
        for block in self.blocks:
            assert isinstance(block, FusionBlock)
            weights = None if attention is None else block.attention_weights(states, sights)
            if attention is not None and weights is not None:
                attention.append(weights)
            states, fused, gate = block(states, sights, present)
            if gate is not None:
                gates.append(gate)
        if self.join is not None:
            fused = self.join(torch.cat([states[name] for name in self.config.fused_order], -1))
        assert fused is not None
        return fused, gates


def _build_temporal(config: FusionConfig) -> nn.Module | None:
    """The temporal module of every stream, before fusion."""
    num_streams, hidden = len(config.streams), config.hidden_dim
    if config.temporal == "none":
        return None
    if config.temporal in ("gru", "bigru"):
        size = (num_streams, hidden, config.gru_layers, config.dropout)
        return TemporalEncoder(*size, bidirectional=not config.causal)
    if config.temporal in ("transformer", "causal-transformer"):
        depth, rotary = config.transformer_layers, config.positions == "rotary"
        return TransformerEncoder(num_streams, hidden, depth, config.num_heads, config.dropout, rotary=rotary)
    if config.temporal in ("ssm", "causal-ssm"):
        layers = (config.ssm_layers, config.num_heads, config.ssm_state)
        return StateSpaceEncoder(num_streams, hidden, *layers, config.dropout, causal=config.causal)
    shape = (num_streams, hidden, config.tcn_layers, config.tcn_kernel, config.dropout)
    return ConvolutionalEncoder(*shape, causal=config.causal)
