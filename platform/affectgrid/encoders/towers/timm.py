"""Image towers by timm: EfficientNet, ConvNeXt, DINOv2, SigLIP, MAE and a thousand others, from their own files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import timm
from safetensors.torch import load_file
from torch import nn

from affectgrid.encoders.preprocess import ImagePreprocess
from affectgrid.encoders.towers.image import bad_config
from affectgrid.encoders.towers.loaded import LoadedImageModel
from affectgrid.encoders.towers.quiet import quiet
from affectgrid.encoders.weights import find_safetensors, load_strictly
from affectgrid.errors import ModelError, Problem

PREFIX = "timm/"  # of a name on the hub


def load_timm_directory(directory: Path) -> LoadedImageModel:
    """A directory as timm publishes it: ``config.json`` with an ``architecture``, and one ``.safetensors`` file.

    The features are the pooled ones before the classifier, whose weights are left out.
    """
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        with quiet():
            model = timm.create_model(config["architecture"], num_classes=0, **config.get("model_args", {}))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AssertionError) as error:
        raise bad_config(str(path), f"{type(error).__name__}: {error}") from error
    weights = find_safetensors(directory)
    load_strictly(model, _without_classifier(load_file(weights), model), str(weights))
    return _loaded(model, {**model.default_cfg, **config.get("pretrained_cfg", {})}, config["architecture"])


def load_timm_named(name: str) -> LoadedImageModel:
    """``timm/<model>.<tag>`` from the hub's cache, or from the hub. Raises ModelError (MOD-FETCH)."""
    try:
        with quiet():
            model = timm.create_model(f"hf-hub:{name}", pretrained=True, num_classes=0)
    except Exception as error:  # the hub's client raises many kinds, all of which mean the same to the user
        raise ModelError(
            Problem(
                "MOD-FETCH",
                where=name,
                found=f"weights not in the local cache and not fetched ({type(error).__name__})",
                expected="a network, or a local copy",
                hint=f"on a machine with a network run `hf download {name} --local-dir DIR`, then pass DIR",
            )
        ) from error
    return _loaded(model, model.pretrained_cfg, name)


def _without_classifier(tensors: Mapping[str, Any], model: Any) -> dict[str, Any]:
    heads = model.default_cfg.get("classifier", ())
    prefixes = tuple(f"{head}." for head in ((heads,) if isinstance(heads, str) else heads or ()))
    return {name: tensor for name, tensor in tensors.items() if not prefixes or not name.startswith(prefixes)}


def _loaded(model: nn.Module, settings: Mapping[str, Any], architecture: str) -> LoadedImageModel:
    _, height, width = settings["input_size"]
    if height != width:
        raise bad_config("pretrained_cfg", f"images of {height} x {width}")
    interpolation: Literal["bilinear", "bicubic"] = (
        "bilinear" if settings.get("interpolation") == "bilinear" else "bicubic"
    )
    mean, std = (tuple(float(value) for value in settings[name]) for name in ("mean", "std"))
    facts = {"timm": architecture, "size": height, "interpolation": interpolation, "mean": mean, "std": std}
    return LoadedImageModel(model, None, ImagePreprocess(height, "shortest", interpolation), mean, std, facts)
