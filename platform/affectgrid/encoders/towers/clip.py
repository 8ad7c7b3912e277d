"""Image towers and CLIP models by open_clip: from a directory, or from published weights by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
from open_clip.factory import load_checkpoint
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from safetensors.torch import load_file
from torch import nn

from affectgrid.encoders.preprocess import ImagePreprocess
from affectgrid.encoders.towers.image import bad_config, build_image_tower
from affectgrid.encoders.towers.loaded import LoadedImageModel
from affectgrid.encoders.towers.quiet import quiet
from affectgrid.encoders.weights import find_safetensors, load_strictly, misfit, pickle_refused
from affectgrid.errors import ModelError, Problem, nearest


def load_clip_directory(directory: Path) -> LoadedImageModel:
    config_path = directory / "open_clip_config.json"
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        model_cfg = config["model_cfg"]
        vision_cfg, _ = model_cfg["vision_cfg"], model_cfg["embed_dim"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise bad_config(str(config_path), f"{type(error).__name__}: {error}") from error
    weights = find_safetensors(directory)
    preprocess_cfg = config.get("preprocess_cfg", {})
    if model_cfg.get("text_cfg") is None:
        tower = build_image_tower(model_cfg)
        load_strictly(tower, load_file(weights), str(weights))
        preprocess_cfg = {"size": vision_cfg.get("image_size", 224), **preprocess_cfg}
        return _loaded(tower, None, preprocess_cfg, model_cfg)
    located = f"local-dir:{directory}"
    try:
        with quiet():
            model = open_clip.create_model(located, load_weights=False, pretrained_text=False)
            tokenizer = open_clip.get_tokenizer(located)
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError, OSError) as error:
        raise bad_config(str(config_path), f"{type(error).__name__}: {error}") from error
    _load_clip(model, weights)
    return _loaded(model, tokenizer, model.visual.preprocess_cfg, model_cfg)


def load_clip_named(name: str) -> LoadedImageModel:
    architecture, _, tag = name.partition("/")
    if architecture not in open_clip.list_models():
        raise ModelError(
            Problem(
                "MOD-NAME",
                where=name,
                found=f"neither a directory nor an open_clip architecture: {architecture!r}",
                expected="'tiny', '<architecture>/<tag>', 'timm/<name>', 'transformers/<name>' or a directory",
                hint=nearest(architecture, open_clip.list_models()),
            )
        )
    pretrained = get_pretrained_cfg(architecture, tag)
    if not tag or not pretrained:
        known = open_clip.list_pretrained_tags_by_model(architecture)
        raise ModelError(
            Problem(
                "MOD-NAME",
                where=name,
                found=f"no weights {tag!r} for {architecture}",
                expected="a known tag",
                hint=nearest(tag, known),
            )
        )
    weights = _fetch(name, pretrained)
    if weights.suffix != ".safetensors":
        raise pickle_refused(weights)
    with quiet():
        model = open_clip.create_model(
            architecture,
            load_weights=False,
            pretrained_text=False,
            force_quick_gelu=bool(pretrained.get("quick_gelu", False)),
            force_preprocess_cfg=merge_preprocess_dict({}, pretrained),
        )
    _load_clip(model, weights)
    config = open_clip.get_model_config(architecture)
    return _loaded(model, open_clip.get_tokenizer(architecture), model.visual.preprocess_cfg, config)


def _fetch(name: str, pretrained: Mapping[str, Any]) -> Path:
    """The weights' file from the local cache, or from the network when there is one."""
    try:
        return Path(download_pretrained(dict(pretrained)))
    except Exception as error:  # the hub's client raises many kinds, all of which mean the same to the user
        repository = str(pretrained.get("hf_hub") or "").rstrip("/")
        fetch = (
            f"hf download {repository} open_clip_config.json open_clip_model.safetensors --local-dir DIR"
            if repository
            else f"download {pretrained.get('url')} and convert it with convert_weights into DIR"
        )
        raise ModelError(
            Problem(
                "MOD-FETCH",
                where=name,
                found=f"weights not in the local cache and not fetched ({type(error).__name__})",
                expected="a network, or a local copy",
                hint=f"on a machine with a network run `{fetch}`, then pass DIR as the model",
            )
        ) from error


def _load_clip(model: nn.Module, weights: Path) -> None:
    try:
        load_checkpoint(model, str(weights), strict=True, weights_only=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise misfit(str(weights), [line[:200] for line in lines]) from error


def _loaded(model: nn.Module, tokenizer: Any, preprocess_cfg: Mapping[str, Any], model_cfg: Any) -> LoadedImageModel:
    merged = merge_preprocess_dict(PreprocessCfg(), dict(preprocess_cfg))
    size = merged["size"]
    if not isinstance(size, int):
        height, width = size
        if height != width:
            raise bad_config("preprocess_cfg", f"images of {height} x {width}")
        size = int(height)
    preprocess = ImagePreprocess(size, merged["resize_mode"], merged["interpolation"])
    settings = {"model": model_cfg, "preprocess": merged}
    return LoadedImageModel(model, tokenizer, preprocess, tuple(merged["mean"]), tuple(merged["std"]), settings)
