"""An open_clip image tower from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from open_clip.model import _build_vision_tower
from torch import nn

from affectgrid.errors import ModelError, Problem


def build_image_tower(model_cfg: Mapping[str, Any]) -> nn.Module:
    """An open_clip image tower with untrained weights, from a ``model_cfg`` (``embed_dim``, ``vision_cfg``).

    ``timm_proj: null`` means no projection here, the trunk's pooled features. (open_clip reads it as "the trunk's
    classifier", which an encoder of features has no use for.)
    """
    try:
        vision_cfg = {**model_cfg["vision_cfg"], "timm_model_pretrained": False}
        if "timm_model_name" in vision_cfg:
            vision_cfg["timm_proj"] = vision_cfg.get("timm_proj") or "none"
        tower: nn.Module = _build_vision_tower(
            model_cfg["embed_dim"], vision_cfg, bool(model_cfg.get("quick_gelu", False))
        )
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise bad_config("model_cfg", f"{type(error).__name__}: {error}") from error
    return tower


def bad_config(where: str, found: str) -> ModelError:
    """The error for a configuration that open_clip cannot build."""
    return ModelError(
        Problem(
            "MOD-CONFIG",
            where=where,
            found=found,
            expected="open_clip_config.json, or timm's or transformers' config.json, of a model for square images",
            hint="correct the configuration of the model directory",
        )
    )
