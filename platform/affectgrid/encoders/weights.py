"""Weights of every encoder: their digest, the check of their file."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from affectgrid.errors import ModelError, Problem

log = logging.getLogger(__name__)

PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".pkl")


def digest_weights(module: nn.Module, settings: Mapping[str, Any]) -> str:
    """Hash every tensor's name, type, shape and bytes, and the settings that change what the model computes.

    Returns 64 hex digits. Two directories with equal weights and settings share it, whatever their files look like.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def find_safetensors(directory: Path) -> Path:
    """The one weights file of a model directory.

    Raises ModelError when there is none (MOD-WEIGHTS), only pickled ones (MOD-PICKLE), or several (MOD-MANY).
    """
    found = sorted(directory.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise ModelError(
            Problem(
                "MOD-MANY",
                where=str(directory),
                found=names,
                expected="one .safetensors file",
                hint="leave only the one that is meant",
            )
        )
    pickled = sorted(path.name for path in directory.iterdir() if path.suffix in PICKLED)
    if pickled:
        raise pickle_refused(directory / pickled[0])
    raise ModelError(
        Problem(
            "MOD-WEIGHTS",
            where=str(directory),
            found="no weights",
            expected="a .safetensors file",
            hint="put the model's weights there",
        )
    )


def pickle_refused(path: Path) -> ModelError:
    """The error for weights that only a pickle holds."""
    return ModelError(
        Problem(
            "MOD-PICKLE",
            where=str(path),
            found="pickled weights, which can run code when they are opened",
            expected="safetensors",
            hint="use affectgrid.encoders.towers.conversion.convert_weights, which opens them with weights_only=True",
        )
    )


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load weights that must fit exactly; ModelError (MOD-FIT) names the first tensors that differ."""
    own = module.state_dict()
    wrong = [f"{name} is missing" for name in own if name not in tensors]
    wrong += [f"{name} is not in the architecture" for name in tensors if name not in own]
    wrong += [
        f"{name} is {tuple(tensors[name].shape)} where the architecture has {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if wrong:
        raise misfit(where, wrong)
    module.load_state_dict(dict(tensors))


def misfit(where: str, wrong: list[str]) -> ModelError:
    """Weights and architecture disagree: the first three differences and their number."""
    shown = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    return ModelError(
        Problem(
            "MOD-FIT",
            where=where,
            found=shown,
            expected="weights that fit the architecture of its configuration",
            hint="correct the configuration or take the weights that belong to it",
        )
    )
