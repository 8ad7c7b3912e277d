"""Build a model from a configuration, the sizes of the streams and the prompts."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from affectgrid.errors import ConfigError, Problem, nearest
from affectgrid.model.config import SIGMA_RATIO_BOUNDS
from affectgrid.model.context import RegionContext
from affectgrid.model.fusion import FusionModel
from affectgrid.model.labels import LearnedSigma
from affectgrid.model.prompts import PromptBank
from affectgrid.model.readout import Readout
from affectgrid.regions import RegionGrid
from affectgrid.training.config import TrainConfig
from affectgrid.training.data import EncodedPrompts


def build_model(config: TrainConfig, *, dims: Mapping[str, int], prompts: EncodedPrompts | None) -> FusionModel:
    """A fresh model whose weights depend on the seed alone. Torch's global random state is left as it was.

    `dims` has the length of a feature of every stream of the data.

    Raises ConfigError: CFG-CONTEXT where learnable context and the texts are longer than the text encoder reads, or
    where the prompts were encoded without it; CFG-STREAM where the configuration names a stream that the data lack.
    """
    _require_streams(config, dims)
    if prompts is None or not config.prompt.has_head:
        return _assemble(config, dims, None, None)
    return _assemble(config, dims, _bank(config, prompts), prompts.grid)


def blank_model(
    config: TrainConfig, *, dims: Mapping[str, int], grid: RegionGrid, prompt_dim: int | None
) -> FusionModel:
    """A model of the same shape, to be filled with saved weights. `prompt_dim` None: one without a prompt head.

    Learnable context is not needed any more: its texts' features were saved.
    """
    learnable = config.prompt.mode == "learned"
    bank = None if prompt_dim is None else PromptBank.blank(grid.num_regions, prompt_dim, learnable=learnable)
    return _assemble(config, dims, bank, grid)


def _require_streams(config: TrainConfig, dims: Mapping[str, int]) -> None:
    for name in config.model.streams:
        if name not in dims:
            hint = nearest(name, dims) or "import it: jobs/import.py"
            expected = f"streams of the data: {', '.join(sorted(dims))}"
            raise ConfigError(
                Problem("CFG-STREAM", where="model.streams", found=repr(name), expected=expected, hint=hint)
            )


def _bank(config: TrainConfig, prompts: EncodedPrompts) -> PromptBank | None:
    prompt = config.prompt
    if prompt.mode != "context":
        return PromptBank.build(prompts.texts_features, prompt.mode, config.seed)
    if prompts.words is None:
        found, expected = f"{prompts.name} came without the text encoder", "the encoder beside it for mode 'context'"
        raise ConfigError(
            Problem(
                "CFG-CONTEXT",
                where="prompt.mode",
                found=found,
                expected=expected,
                hint="give `prepare` the mode context",
            )
        )
    return PromptBank.from_context(
        RegionContext(prompts.words, prompt.context_tokens, shared=prompt.context_shared, seed=config.seed)
    )


def _assemble(
    config: TrainConfig, dims: Mapping[str, int], bank: PromptBank | None, grid: RegionGrid | None
) -> FusionModel:
    prompt, sigma, readout = config.prompt, None, None
    if bank is not None and grid is not None:
        if prompt.labels == "learned":
            sigma = LearnedSigma(prompt.sigma_ratios, SIGMA_RATIO_BOUNDS, grid.spacing)
        if prompt.readout_blend:
            readout = Readout(grid, prompt.readout_blend)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return FusionModel(config.model, feature_dims=dims, prompts=bank, sigma=sigma, readout=readout)
