"""The shape of the fusion model, checked before anything is built."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, StringConstraints, model_validator

from affectgrid.settings import Settings

StreamName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]  # visual, audio, or an imported stream
PromptMode = Literal["fixed", "ensemble", "context", "learned", "shuffled", "rotated", "none"]
Temporal = Literal[
    "bigru", "gru", "tcn", "causal-tcn", "transformer", "causal-transformer", "ssm", "causal-ssm", "none"
]
SIGMA_RATIO_BOUNDS = (0.1, 2.0)  # of sigma / spacing: from nearly hard to nearly uniform labels. This project's choice


class FusionConfig(Settings):
    """Streams, time and fusion. Sizes are this project's own choice."""

    streams: tuple[StreamName, ...] = Field(
        ("visual", "audio"), min_length=1, description="which streams the model reads: visual, audio, imported ones"
    )
    stream_priors: tuple[PositiveFloat, ...] = Field(
        (), description="how much each of streams counts in a gate before it has learnt anything; empty: the same"
    )
    hidden_dim: int = Field(64, gt=0, description="width of every frame state; divisible by num_heads, even for bigru")
    temporal: Temporal = Field(
        "bigru",
        description="GRU, convolutions, self-attention or a selective state space, looking both ways or back; or none",
    )
    gru_layers: int = Field(1, gt=0)
    tcn_layers: int = Field(4, gt=0, le=16, description="residual blocks of a TCN; block n is dilated by 2 ** n")
    tcn_kernel: int = Field(3, ge=2, description="taps of a TCN's convolutions; odd for the one that looks both ways")
    transformer_layers: int = Field(2, gt=0, le=16, description="self-attention layers of a transformer")
    ssm_layers: int = Field(2, gt=0, le=16, description="layers of a selective state space")
    ssm_state: int = Field(16, gt=0, description="numbers that a state space keeps for every channel")
    fusion: Literal["both", "attention", "gate", "concat"] = Field(
        "both", description="what a fusion block holds: cross-modal attention, gated refinement, or both"
    )
    fusion_depth: int = Field(1, ge=0, description="fusion blocks; 0 joins the streams by concatenation")
    num_heads: int = Field(4, gt=0, description="attention heads")
    positions: Literal["rotary", "none"] = Field(
        "rotary", description="what attention knows of time: how far apart two frames are, or nothing"
    )
    attention_span: int = Field(0, ge=0, description="frames that attention sees on each side; 0: the whole window")
    dropout: float = Field(0.1, ge=0, lt=1)
    modality_dropout: float = Field(0.1, ge=0, lt=1, description="chance that a window loses a whole stream")

    @property
    def causal(self) -> bool:
        """Whether a frame may only depend on itself and earlier ones."""
        return self.temporal in ("gru", "causal-tcn", "causal-transformer", "causal-ssm")

    @property
    def fuses(self) -> bool:
        """Whether there are fusion blocks: several streams, and more than their concatenation asked for."""
        return len(self.streams) > 1 and self.fusion != "concat" and self.fusion_depth > 0

    @property
    def fused_order(self) -> tuple[str, ...]:
        """The streams, first the pivot, which every other one attends to: the picture, else the first that is named."""
        return tuple(sorted(self.streams, key=lambda name: name != "visual"))

    @property
    def priors_in_order(self) -> tuple[float, ...]:
        """Of each stream, in `fused_order`."""
        priors = dict(zip(self.streams, self.stream_priors or (1.0,) * len(self.streams), strict=True))
        return tuple(priors[name] for name in self.fused_order)

    @model_validator(mode="after")
    def _check_shape(self) -> FusionConfig:
        if len(set(self.streams)) != len(self.streams):
            raise ValueError(f"streams names one twice: {', '.join(self.streams)}; list each once")
        if self.stream_priors and len(self.stream_priors) != len(self.streams):
            raise ValueError(
                f"stream_priors has {len(self.stream_priors)} numbers for {len(self.streams)} streams; give one each"
            )
        if self.hidden_dim % self.num_heads:
            raise ValueError(
                f"hidden_dim {self.hidden_dim} is not divisible by num_heads {self.num_heads}; change one of them"
            )
        if self.temporal == "bigru" and self.hidden_dim % 2:
            raise ValueError(f"hidden_dim {self.hidden_dim} is odd; bigru gives half of it to each direction")
        if self.temporal == "tcn" and self.tcn_kernel % 2 == 0:
            raise ValueError(f"tcn_kernel {self.tcn_kernel} is even and has no middle; take an odd one, or causal-tcn")
        return self
