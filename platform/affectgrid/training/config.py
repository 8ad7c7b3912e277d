"""Everything that defines one training run. A search space addresses these fields by their dotted names."""

from __future__ import annotations

from pydantic import Field, model_validator

from affectgrid.model.config import FusionConfig, PromptMode
from affectgrid.settings import Settings


class PromptConfig(Settings):
    """Regions of the plane, their texts, and the loss that ties frames to them."""

    file: str = Field("3x3-plain", description="grid file: a name under search_spaces/prompts, or a path to a .yaml")
    mode: PromptMode = Field("ensemble", description="how the texts enter; 'none' switches the prompt loss off")
    weight: float = Field(0.5, ge=0, description="weight of the soft-label cross entropy in the objective")
    sigma_ratio: float = Field(0.5, gt=0, description="kernel sigma over the spacing of the region centres")


class WindowConfig(Settings):
    """How tracks are cut for training and for inference."""

    length: int = Field(300, gt=0, description="frames in a window")
    stride: int = Field(200, gt=0, description="frames between the starts of two windows; at most the length")
    smooth_half_width: int = Field(0, ge=0, description="frames on each side of the centred smoothing filter; 0: none")

    @model_validator(mode="after")
    def _covers(self) -> WindowConfig:
        if self.stride > self.length:
            raise ValueError(f"stride {self.stride} is above length {self.length} and would leave frames out; lower it")
        return self


class OptimConfig(Settings):
    """AdamW with linear warm-up and cosine decay."""

    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(1e-2, ge=0)
    epochs: int = Field(20, gt=0)
    batch_size: int = Field(16, gt=0, description="windows in a step, over all workers together")
    warmup_share: float = Field(0.1, ge=0, lt=1, description="share of all steps in which the rate climbs")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")


class LossConfig(Settings):
    """The objective is (1 - CCC_v) + (1 - CCC_a) + mse_weight * MSE + prompt.weight * cross entropy."""

    mse_weight: float = Field(0.0, ge=0)


class TrainConfig(Settings):
    """One training run. Numbers are this project's own choice; the paper's are not public (see docs)."""

    seed: int = Field(0, ge=0)
    model: FusionConfig = FusionConfig()
    prompt: PromptConfig = PromptConfig()
    window: WindowConfig = WindowConfig()
    optim: OptimConfig = OptimConfig()
    loss: LossConfig = LossConfig()
