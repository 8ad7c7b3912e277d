"""Pickled image weights to a model directory with safetensors."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from affectgrid.encoders.towers.image import build_image_tower
from affectgrid.encoders.weights import misfit, pickle_refused

log = logging.getLogger(__name__)


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
