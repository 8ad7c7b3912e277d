"""Image towers by transformers: DINOv2, SigLIP, ViT, ViT-MAE, ConvNeXt and others, from their own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from affectgrid.encoders.preprocess import ImagePreprocess, ResizeMode
from affectgrid.encoders.towers.image import bad_config
from affectgrid.encoders.towers.loaded import LoadedImageModel
from affectgrid.encoders.towers.quiet import quiet
from affectgrid.encoders.weights import find_safetensors, misfit
from affectgrid.errors import ModelError, Problem

PREFIX = "transformers/"  # before a name on the hub
_BILINEAR = 2  # of PIL
_NOT_READ = ("pooler.", "mask_token")  # left out by some publishers, and random then: the pooler is passed over


class PooledImages(nn.Module):
    """The picture's one vector, of whatever model.

    The image features of a model of pictures and texts; else the pooled output; else, where the first token was trained
    as the picture's (ViT-MAE), that token; else the mean of the last hidden states.
    """

    def __init__(self, model: Any, *, reads_pooler: bool) -> None:
        super().__init__()
        self.model, self.reads_pooler = model, reads_pooler

    def forward(self, pixels: Float[Tensor, "n 3 size size"]) -> Float[Tensor, "n dim"]:
        if hasattr(self.model, "get_image_features"):
            return _tensor(self.model.get_image_features(pixel_values=pixels)).flatten(1)
        output = self.model(pixel_values=pixels)
        pooled = getattr(output, "pooler_output", None) if self.reads_pooler else None
        if pooled is not None:
            features: Tensor = pooled.flatten(1)  # some leave the two axes of the picture
            return features
        states: Tensor = output.last_hidden_state
        if states.ndim == 4:  # [n, channel, height, width] of a convolutional network
            return states.mean((2, 3))
        has_token = hasattr(getattr(self.model, "embeddings", None), "cls_token")
        return states[:, 0] if has_token else states.mean(1)


def load_transformers(source: str, *, local: bool) -> LoadedImageModel:
    """A directory with ``config.json``, ``preprocessor_config.json`` and one ``.safetensors`` file, or a hub name.

    Raises ModelError: MOD-CONFIG, MOD-FETCH, MOD-FIT, MOD-WEIGHTS, MOD-PICKLE.
    """
    if local:
        find_safetensors(Path(source))
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local}
    try:
        with quiet():
            config = AutoConfig.from_pretrained(source, **options)
            if hasattr(config, "mask_ratio"):
                config.mask_ratio = 0.0  # a masked autoencoder would drop patches at random
            processor = AutoImageProcessor.from_pretrained(source, **options).to_dict()
            model, report = AutoModel.from_pretrained(
                source,
                config=config,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below, by name
                **options,
            )
    except Exception as error:  # transformers raises many kinds; which one depends on the file that is wrong
        raise _unloadable(source, local, error) from error
    missing = sorted(report["missing_keys"])
    wrong = [f"{key} is missing" for key in missing if not key.endswith(_NOT_READ) and "pooler." not in key]
    wrong += [f"{key} is {tuple(theirs)}, not {tuple(own)}" for key, theirs, own in sorted(report["mismatched_keys"])]
    if wrong:
        raise misfit(source, wrong)
    tower = PooledImages(model, reads_pooler=not any("pooler." in key for key in missing))
    return _loaded(tower, processor, config.to_diff_dict())


def _loaded(tower: PooledImages, processor: dict[str, Any], config: dict[str, Any]) -> LoadedImageModel:
    size = processor.get("crop_size") if processor.get("do_center_crop") else processor["size"]
    size = size or processor["size"]
    sides = {int(side) for side in size.values() if isinstance(side, int | float)}
    if len(sides) != 1:
        raise bad_config("preprocessor_config.json", f"pictures of {size}")
    mode: ResizeMode = "shortest" if "shortest_edge" in processor["size"] else "squash"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear" if processor.get("resample") == _BILINEAR else "bicubic"
    preprocess = ImagePreprocess(sides.pop(), mode, interpolation)
    mean, std = (tuple(float(value) for value in processor[f"image_{name}"]) for name in ("mean", "std"))
    facts = {name: value for name, value in config.items() if name not in ("_name_or_path", "transformers_version")}
    settings = {"transformers": facts, "preprocess": repr(preprocess), "mean": mean, "std": std}
    return LoadedImageModel(tower, None, preprocess, mean, std, json.loads(json.dumps(settings, default=str)))


def _tensor(output: Any) -> Tensor:
    """Image features: a tensor, or, from version 5 on, an output that holds them."""
    if isinstance(output, torch.Tensor):
        return output
    features: Tensor = output.pooler_output
    return features


def _unloadable(source: str, local: bool, error: Exception) -> ModelError:
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0] if lines else ''}"
    if local:
        return bad_config(source, reason)
    return ModelError(
        Problem(
            "MOD-FETCH",
            where=f"{PREFIX}{source}",
            found=f"not in the local cache and not fetched ({reason})",
            expected="a network, or a local copy with safetensors",
            hint=f"on a machine with a network run `hf download {source} --local-dir DIR`, then pass DIR",
        )
    )
