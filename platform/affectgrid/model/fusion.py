"""The model: each stream over time, hierarchical fusion, and the two heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from affectgrid.model.attention import CrossModalLayer, Sight
from affectgrid.model.config import FusionConfig, Stream
from affectgrid.model.dropout import LockedDropout
from affectgrid.model.labels import LearnedSigma
from affectgrid.model.prompts import PromptBank, PromptHead
from affectgrid.model.readout import Readout
from affectgrid.model.streams import StreamInput, drop_stream
from affectgrid.model.temporal.convolution import ConvolutionalEncoder
from affectgrid.model.temporal.recurrent import FrameOrder, TemporalEncoder
from affectgrid.model.temporal.transformer import TransformerEncoder

CONTEXT = "prompt_head.context."  # what the names of the weights of learnable context begin with
Weights = Float[Tensor, "batch head frame frame"]
AttentionPair = tuple[Weights, Weights]
Sights = tuple[Sight, Sight]  # of the picture on the sound's frames, and the other way round


class FusionOutput(NamedTuple):
    """The model's output for every frame; meaningless where `frame_mask` is false.

    Args:
        va: valence and arousal in (-1, 1).
        region_logits: None without prompts.
        gates: one per fusion block, in (0, 1), 1 for visual; None unless asked for, empty where no block has a gate.
        attention: per fusion block what the picture takes of the sound's frames, and the sound of the picture's; None
            unless asked for, empty where no block attends.
        sigma: widths of the soft labels where they are learnt. Here, so that it passes through what wraps the model for
            several workers, which only then joins its gradients.
    """

    va: Float[Tensor, "batch frame 2"]
    region_logits: Float[Tensor, "batch frame region"] | None
    gates: list[Float[Tensor, "batch frame hidden"]] | None
    attention: list[AttentionPair] | None = None
    sigma: Float[Tensor, " axis"] | None = None


class GatedFusion(nn.Module):
    """g = sigmoid(W [v; a]) and f = g v + (1 - g) a, for every frame and every channel."""

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * hidden_dim, hidden_dim)

    def forward(
        self, visual: Float[Tensor, "batch frame hidden"], audio: Float[Tensor, "batch frame hidden"]
    ) -> tuple[Float[Tensor, "batch frame hidden"], Float[Tensor, "batch frame hidden"]]:
        """Returns the fused state and the gate in (0, 1): 1 takes the visual stream, 0 the sound."""
        gate = torch.sigmoid(self.gate(torch.cat([visual, audio], -1)))
        return audio + gate * (visual - audio), gate


class FusionBlock(nn.Module):
    """Cross-modal attention both ways, then gated refinement; a configuration may leave either out.

    The gated state is handed back to both streams as a residual, so that the next block refines what this one fused
    (our reading of "hierarchical"; the paper's wiring is not public).
    """

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        size = (config.hidden_dim, config.num_heads, config.dropout)
        attends, gates = config.fusion in ("both", "attention"), config.fusion in ("both", "gate")
        rotary = config.positions == "rotary"
        self.visual_asks = CrossModalLayer(*size, rotary=rotary) if attends else None
        self.audio_asks = CrossModalLayer(*size, rotary=rotary) if attends else None
        self.gated = GatedFusion(config.hidden_dim) if gates else None

    def forward(
        self,
        visual: Float[Tensor, "batch frame hidden"],
        audio: Float[Tensor, "batch frame hidden"],
        sights: Sights | None,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Returns both streams, the fused state and the gate; the last two are None without a gate.

        `sights` is needed where the block attends.
        """
        if self.visual_asks is not None and self.audio_asks is not None and sights is not None:
            of_audio, of_visual = sights
            # both ask the states from before the block: neither direction comes first
            visual, audio = self.visual_asks(visual, audio, of_audio), self.audio_asks(audio, visual, of_visual)
        if self.gated is None:
            return visual, audio, None, None
        fused, gate = self.gated(visual, audio)
        return visual + fused, audio + fused, fused, gate

    def attention_weights(self, visual: Tensor, audio: Tensor, sights: Sights | None) -> AttentionPair | None:
        """How the block that is given these states attends; None where it does not."""
        if self.visual_asks is None or self.audio_asks is None or sights is None:
            return None
        asks = (self.visual_asks.attention_weights, self.audio_asks.attention_weights)
        return asks[0](visual, audio, sights[0]), asks[1](audio, visual, sights[1])


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
        visual_dim: int,
        audio_dim: int,
        prompts: PromptBank | None = None,
        sigma: LearnedSigma | None = None,
        readout: Readout | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_dim
        feature_dims = {"visual": visual_dim, "audio": audio_dim}
        self.inputs = nn.ModuleDict({s: StreamInput(feature_dims[s], hidden, config.dropout) for s in config.streams})
        self.temporal = _build_temporal(config)
        self.blocks = nn.ModuleList(FusionBlock(config) for _ in range(config.fusion_depth if config.fuses else 0))
        joins = len(config.streams) > 1 and not (config.fuses and config.fusion != "attention")
        self.join = nn.Linear(2 * hidden, hidden) if joins else None
        self.norm = nn.LayerNorm(hidden)
        self.dropout = LockedDropout(config.dropout)
        self.va_head = nn.Linear(hidden, 2)
        self.prompt_head = (
            None
            if prompts is None
            else PromptHead(hidden, prompts.features, learnable=prompts.learnable, context=prompts.context)
        )
        self.sigma, self.readout = sigma, readout

    def standardise(self, statistics: Mapping[Stream, tuple[Float[Tensor, " dim"], Float[Tensor, " dim"]]]) -> None:
        """Take each stream's mean and standard deviation over the training frames; other streams are ignored."""
        for stream in self.config.streams:
            entry = self.inputs[stream]
            assert isinstance(entry, StreamInput)
            entry.standardise(*statistics[stream])

    def forward(
        self,
        visual: Float[Tensor, "batch frame visual"],
        visual_present: Bool[Tensor, "batch frame"],
        audio: Float[Tensor, "batch frame audio"],
        audio_present: Bool[Tensor, "batch frame"],
        frame_mask: Bool[Tensor, "batch frame"],
        *,
        attention_reach: int = 0,
        return_gates: bool = False,
        return_attention: bool = False,
    ) -> FusionOutput:
        """Features of any float type; they are not read where absent or masked. Masks are true for what is there.

        `attention_reach` limits attention to so many frames on each side where the configuration has no narrower span:
        for tracks longer than the windows of the training; 0: no limit.
        """
        present = {"visual": visual_present & frame_mask, "audio": audio_present & frame_mask}
        features = {"visual": visual, "audio": audio}
        if self.training and self.config.modality_dropout and len(self.config.streams) > 1:
            chance = self.config.modality_dropout
            present["visual"], present["audio"] = drop_stream(present["visual"], present["audio"], chance)
        states = torch.stack([self.inputs[s](features[s], present[s]) for s in self.config.streams])
        if self.temporal is not None:
            states = self._over_time(states, frame_mask, attention_reach)
        attention: list[AttentionPair] | None = [] if return_attention else None
        sights = self._sights(present, attention_reach)
        fused, gates = self._fuse(dict(zip(self.config.streams, states, strict=True)), sights, attention)
        fused = self.dropout(self.norm(fused))
        va = torch.tanh(self.va_head(fused))
        logits = None if self.prompt_head is None else self.prompt_head(fused)
        if self.readout is not None and logits is not None and not self.training:
            va = self.readout(va, logits)
        sigma = None if self.sigma is None else self.sigma()
        return FusionOutput(va, logits, gates if return_gates else None, attention, sigma)

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

    def _sights(self, present: Mapping[str, Tensor], reach: int) -> Sights | None:
        """What the picture sees of the sound and the sound of the picture: the frames that are there."""
        if not self.blocks or self.config.fusion == "gate":
            return None
        return self._sight(present["audio"], reach), self._sight(present["visual"], reach)

    def _fuse(
        self, states: Mapping[Stream, Tensor], sights: Sights | None, attention: list[AttentionPair] | None
    ) -> tuple[Tensor, list[Tensor]]:
        """One state per frame from those of the streams, and the gates on the way; fills `attention` if it is there."""
        if len(states) == 1:
            return next(iter(states.values())), []
        visual, audio, fused = states["visual"], states["audio"], None
        gates = []
        for block in self.blocks:
            assert isinstance(block, FusionBlock)
            weights = None if attention is None else block.attention_weights(visual, audio, sights)
            if attention is not None and weights is not None:
                attention.append(weights)
            visual, audio, fused, gate = block(visual, audio, sights)
            if gate is not None:
                gates.append(gate)
        if self.join is not None:
            fused = self.join(torch.cat([visual, audio], -1))
        assert fused is not None
        return fused, gates


def _build_temporal(config: FusionConfig) -> TemporalEncoder | ConvolutionalEncoder | TransformerEncoder | None:
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
    shape = (num_streams, hidden, config.tcn_layers, config.tcn_kernel, config.dropout)
    return ConvolutionalEncoder(*shape, causal=config.causal)
