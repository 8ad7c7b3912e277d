"""Everything that defines one training run. A search space addresses these fields by their dotted names."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from affectgrid.model.config import SIGMA_RATIO_BOUNDS, FusionConfig, PromptMode
from affectgrid.settings import Settings

METHOD_VERSION = 2  # raise it when a configuration comes to mean another model: what was trained before is told apart
LabelKind = Literal["gaussian", "learned", "hard", "uniform"]
Schedule = Literal["cosine", "linear", "constant"]
TrainPrecision = Literal["fp32", "bf16"]
SmoothKernel = Literal["mean", "gaussian", "exponential"]


class PromptConfig(Settings):
    """Regions of the plane, their texts, and the loss that ties frames to them."""

    file: str = Field("3x3-plain", description="grid file: a name under search_spaces/prompts, or a path to a .yaml")
    mode: PromptMode = Field("ensemble", description="how the texts enter; 'none' switches the prompt loss off")
    weight: float = Field(0.5, ge=0, description="weight of the soft-label cross entropy in the objective")
    sigma_ratio: float = Field(
        0.5, gt=0, description="kernel sigma over the spacing of the region centres, on each axis"
    )
    sigma_ratio_arousal: float | None = Field(None, gt=0, description="the same along arousal, if it differs")
    labels: LabelKind = Field(
        "gaussian",
        description="soft labels of width sigma; the same with a sigma that learns; one-hot; or one-hot smoothed",
    )
    smoothing: float = Field(0.1, ge=0, le=1, description="share of a label that is uniform, with labels 'uniform'")
    context_tokens: int = Field(16, gt=0, description="learnable tokens before a text in mode 'context'; 16 is CoOp's")
    context_shared: bool = Field(True, description="one context for all regions, or one for each")
    readout_blend: float = Field(
        0.0, ge=0, le=1, description="share of the expected region centre in predictions; 0: the regression head alone"
    )

    @property
    def sigma_ratios(self) -> tuple[float, ...]:
        """One width for both axes, or one along valence and one along arousal."""
        return (self.sigma_ratio,) if self.sigma_ratio_arousal is None else (self.sigma_ratio, self.sigma_ratio_arousal)

    def sigmas(self, spacing: tuple[float, float]) -> tuple[float, float]:
        """The kernel's widths along valence and along arousal, where they do not learn; `spacing` is the grid's."""
        valence, arousal = spacing
        return self.sigma_ratios[0] * valence, self.sigma_ratios[-1] * arousal

    @property
    def has_head(self) -> bool:
        """Whether there is a prompt head: one that no loss reaches would say nothing."""
        return self.mode != "none" and self.weight > 0

    @model_validator(mode="after")
    def _check(self) -> PromptConfig:
        low, high = SIGMA_RATIO_BOUNDS
        if self.labels == "learned" and not all(low < ratio < high for ratio in self.sigma_ratios):
            raise ValueError(f"a learned sigma_ratio must start between {low} and {high}, not at {self.sigma_ratios}")
        if self.readout_blend and not self.has_head:
            raise ValueError("readout_blend needs a prompt head: take a mode other than 'none' and a weight above 0")
        return self


def _either(own: int | None, other: int) -> int:
    return other if own is None else own


class WindowConfig(Settings):
    """How tracks are cut for training and for inference. With `rate_hz`, every number of frames below is a time."""

    rate_hz: float | None = Field(
        None, gt=0, description="frames a second: those of other tracks are repeated or left out; None: as filmed"
    )
    length: int = Field(300, gt=0, description="frames in a window")
    stride: int = Field(200, gt=0, description="frames between the starts of two windows; at most the length")
    random_offsets: bool = Field(
        False, description="in every epoch each training window is moved by up to half a stride, at random"
    )
    predict_length: int = Field(
        0, ge=0, description="the length for predictions; 0: as above. A causal model always reads the whole track"
    )
    predict_stride: int = Field(0, ge=0, description="the stride for predictions; 0: as above")
    smooth_half_width: int = Field(
        0, ge=0, description="frames that smoothing takes on each side; of a causal model those before alone; 0: none"
    )
    smooth_half_width_arousal: int | None = Field(None, ge=0, description="the same for arousal, if it differs")
    smooth_kernel: SmoothKernel = Field(
        "mean",
        description="weights of smoothing: all alike, or falling with a deviation or time constant of half its width",
    )
    label_delay: int = Field(
        0,
        ge=0,
        description="frames by which annotators lag: training reads labels that much later, predictions wait as long",
    )
    label_delay_arousal: int | None = Field(None, ge=0, description="the same for arousal, if it differs")

    @property
    def smooth_half_widths(self) -> tuple[int, int]:
        """Of valence and of arousal."""
        return self.smooth_half_width, _either(self.smooth_half_width_arousal, self.smooth_half_width)

    @property
    def label_delays(self) -> tuple[int, int]:
        """Of valence and of arousal."""
        return self.label_delay, _either(self.label_delay_arousal, self.label_delay)

    @property
    def of_predictions(self) -> tuple[int, int]:
        """Length and stride for predictions."""
        return self.predict_length or self.length, self.predict_stride or self.stride

    @model_validator(mode="after")
    def _covers(self) -> WindowConfig:
        for length, stride in ((self.length, self.stride), self.of_predictions):
            if stride > length:
                raise ValueError(f"stride {stride} is above length {length} and would leave frames out; lower it")
        return self


class OptimConfig(Settings):
    """AdamW with linear warm-up and a schedule; how windows are drawn, what is averaged and when training ends."""

    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(1e-2, ge=0)
    epochs: int = Field(20, gt=0, description="passes over the windows; the most there are, with patience")
    batch_size: int = Field(16, gt=0, description="windows in a step, over all workers together")
    warmup_share: float = Field(0.1, ge=0, lt=1, description="share of all steps in which the rate climbs")
    schedule: Schedule = Field(
        "cosine", description="the rate after the warm-up: falls along half a cosine, a line, or not"
    )
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="decay of the weights' moving average, which is validated and kept; 0: none"
    )
    keep: Literal["best", "last"] = Field(
        "best", description="the epoch whose weights are kept: the best on validation, or the last"
    )
    patience: int = Field(0, ge=0, description="epochs without a better validation P after which a run ends; 0: never")
    region_balance: float = Field(
        0.0,
        ge=0,
        le=1,
        description="windows are drawn by (1 / share of their labels' regions) to this power; 0: each once",
    )
    precision: TrainPrecision = Field(
        "fp32", description="of the model's forward and backward pass; bf16: autocast, for processors that have it"
    )


class LossConfig(Settings):
    """The objective, with the weight w_d of valence or arousal; label smoothing acts on what is trained on alone.

    ccc_weight * sum_d w_d (1 - CCC_d) + mse_weight * mean_d w_d MSE_d + prompt.weight * cross entropy.
    """

    ccc_weight: float = Field(1.0, ge=0, description="weight of 1 - CCC, summed over both axes")
    mse_weight: float = Field(0.0, ge=0, description="weight of the mean squared error")
    valence_weight: float = Field(1.0, ge=0, description="weight of valence in both")
    arousal_weight: float = Field(1.0, ge=0, description="weight of arousal in both")
    label_smoothing_frames: int = Field(
        0,
        ge=0,
        description="labels are averaged over the labelled ones among so many frames on each side; 0: as they are",
    )

    @property
    def va_weights(self) -> tuple[float, float]:
        """Weights of valence and arousal."""
        return self.valence_weight, self.arousal_weight


class TrainConfig(Settings):
    """One training run. Numbers are this project's own choice; the paper's are not public (see docs)."""

    seed: int = Field(0, ge=0)
    model: FusionConfig = FusionConfig()
    prompt: PromptConfig = PromptConfig()
    window: WindowConfig = WindowConfig()
    optim: OptimConfig = OptimConfig()
    loss: LossConfig = LossConfig()

    def keep_last(self) -> TrainConfig:
        """The same run, which keeps its last epoch: nothing is chosen by the tracks that it is scored on."""
        return self.model_copy(update={"optim": self.optim.model_copy(update={"keep": "last"})})
