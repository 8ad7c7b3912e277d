"""Weights of every encoder: their digest, the check of their file, and the conversion of pickled ones."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from affectgrid.encoders.image_tower import build_image_tower
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
            hint="use affectgrid.encoders.weights.convert_weights, which opens them with weights_only=True",
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


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What a conversion did: the source, the file made from it, how names were matched, what was left out."""

    source: Path
    target: Path
    matched_by: str
    renamed: Mapping[str, str]
    dropped: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.source.name}: {len(self.renamed)} tensors matched by {self.matched_by}, "
            f"{len(self.dropped)} dropped ({', '.join(self.dropped) or 'none'}) -> {self.target}"
        )


def convert_weights(
    source: Path,
    directory: Path,
    *,
    model_cfg: Mapping[str, Any],
    preprocess_cfg: Mapping[str, Any] | None = None,
) -> Conversion:
    """Turn pickled image weights into a model directory: open_clip_config.json and safetensors.

    The pickle is opened with ``weights_only=True``, so it runs no code. Tensors are matched by name, or, when the
    names are another library's, one by one in order; either way every shape and the last part of every name must
    agree. Left-over tensors at the end of the source (a classifier) are dropped and named in the result.

    Args:
        source: a ``.pth`` file with a state dict.
        directory: made if absent; its two files are replaced.
        model_cfg: open_clip's ``model_cfg`` of an image tower: ``embed_dim`` and ``vision_cfg``, no ``text_cfg``.
        preprocess_cfg: open_clip's ``preprocess_cfg`` (``mean``, ``std``, ``interpolation``, ``resize_mode``).

    Raises ModelError: MOD-PICKLE (refused by weights_only), MOD-FIT (the tensors do not fit).
    """
    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        raise pickle_refused(source) from error
    tensors: dict[str, Tensor] = dict(loaded.get("state_dict", loaded))
    tower = build_image_tower(model_cfg)
    renamed, matched_by = match_tensors(tensors, tower.state_dict(), str(source))
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / "model.safetensors"
    save_file({own: tensors[theirs].contiguous() for theirs, own in renamed.items()}, target)
    config = {"model_cfg": dict(model_cfg), "preprocess_cfg": dict(preprocess_cfg or {})}
    (directory / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    dropped = tuple(name for name in tensors if name not in renamed)
    conversion = Conversion(source, target, matched_by, renamed, dropped)
    log.info("%s", conversion)
    return conversion


def match_tensors(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], where: str) -> tuple[dict[str, str], str]:
    """Map the source's names to the tower's, and say how: ``name`` or ``order``."""
    for prefix in ("", "visual.", "trunk.", "visual.trunk."):
        renamed = {name: prefix + name for name in tensors if prefix + name in own}
        renamed |= {name: name.removeprefix(prefix) for name in tensors if prefix and name.removeprefix(prefix) in own}
        if len(renamed) == len(own):
            wrong = [name for name, mine in renamed.items() if tensors[name].shape != own[mine].shape]
            if wrong:
                raise misfit(where, [f"{name} has another shape" for name in wrong])
            return renamed, "name"
    if len(tensors) < len(own):
        raise misfit(where, [f"{len(tensors)} tensors where the architecture has {len(own)}"])
    renamed = dict(zip(tensors, own, strict=False))  # the source may end in a classifier
    wrong = [
        f"{name} {tuple(tensors[name].shape)} stands where the architecture has {mine} {tuple(own[mine].shape)}"
        for name, mine in renamed.items()
        if tensors[name].shape != own[mine].shape or name.rpartition(".")[2] != mine.rpartition(".")[2]
    ]
    if wrong:
        raise misfit(where, wrong)
    return renamed, "order"
