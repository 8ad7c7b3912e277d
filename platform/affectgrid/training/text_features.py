"""Text features of prompt files, kept in the store so that no text is encoded twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from affectgrid.data.prompts import PromptSet, load_prompt_set
from affectgrid.encoders.visual import VisualEncoder
from affectgrid.training.prompts import EncodedPrompts


def encode_prompts(names: Iterable[str], encoder: VisualEncoder, store: Path) -> dict[str, EncodedPrompts]:
    """Load and encode prompt files by name or path; features are read from ``<store>/text`` where they are known.

    Raises ConfigError for a file that is wrong, ModelError (MOD-TEXT) for an encoder without a text tower.
    """
    return {name: _encode(load_prompt_set(name), encoder, store / "text") for name in names}


def _encode(prompts: PromptSet, encoder: VisualEncoder, folder: Path) -> EncodedPrompts:
    key = hashlib.sha256(json.dumps([encoder.digest, prompts.texts]).encode()).hexdigest()[:16]
    path = folder / f"{key}.safetensors"
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError):
        features = encoder.encode_texts([text for texts in prompts.texts for text in texts])
        parts = torch.split(features, [len(texts) for texts in prompts.texts])
        tensors = {str(region): part.contiguous() for region, part in enumerate(parts)}
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{key}.{os.getpid()}")
        save_file(tensors, temporary)
        temporary.rename(path)
    ordered = tuple(tensors[str(region)] for region in range(prompts.grid.num_regions))
    return EncodedPrompts(prompts.name, prompts.grid, ordered)
