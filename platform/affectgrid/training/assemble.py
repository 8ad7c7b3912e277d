"""A configuration, the sizes of the streams and the prompts make a model."""

from __future__ import annotations

import torch

from affectgrid.model.fusion import FusionModel
from affectgrid.model.prompts import PromptBank
from affectgrid.training.config import TrainConfig
from affectgrid.training.prompts import EncodedPrompts


def build_model(config: TrainConfig, *, visual_dim: int, audio_dim: int, prompts: EncodedPrompts | None) -> FusionModel:
    """A fresh model whose weights depend on the seed alone. Torch's global random state is left as it was."""
    bank = None
    if prompts is not None and config.prompt.weight > 0:  # a head that no loss reaches would say nothing
        bank = PromptBank.build(prompts.texts_features, config.prompt.mode, config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return FusionModel(config.model, visual_dim=visual_dim, audio_dim=audio_dim, prompts=bank)


def blank_model(
    config: TrainConfig, *, visual_dim: int, audio_dim: int, num_regions: int, prompt_dim: int | None
) -> FusionModel:
    """A model of the same shape, to be filled with saved weights. `prompt_dim` None: one without a prompt head."""
    learnable = config.prompt.mode == "learned"
    bank = None if prompt_dim is None else PromptBank.blank(num_regions, prompt_dim, learnable=learnable)
    with torch.random.fork_rng(devices=[]):
        return FusionModel(config.model, visual_dim=visual_dim, audio_dim=audio_dim, prompts=bank)
