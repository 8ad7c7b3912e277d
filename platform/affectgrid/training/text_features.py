"""Text features of prompt files, kept in the store so that no text is encoded twice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from affectgrid.data.prompts import PromptSet, load_prompt_set
from affectgrid.encoders.sentences import TextEncoder
from affectgrid.model.config import PromptMode
from affectgrid.model.context import ContextWords
from affectgrid.training.data import EncodedPrompts

TEXTLESS = frozenset({"learned", "none"})  # prompt modes that read no text


def encode_prompts(
    names: Iterable[str], encoder: TextEncoder, store: Path, *, modes: Iterable[PromptMode] = ("ensemble",)
) -> dict[str, EncodedPrompts]:
    """Load and encode prompt files by name or path; features are read from ``<store>/text`` where they are known.

    `modes` are those that they will be used in. For `context` the text tower comes along, one for all files. An encoder
    without a text tower serves `learned` and `none`.
    Raises ConfigError for a file that is wrong, ModelError: MOD-TEXT for an encoder without a text tower, MOD-CONTEXT
    for one whose text tower cannot take learnable context.
    """
    wanted = set(modes)
    sets = {name: load_prompt_set(name) for name in names}
    if wanted <= TEXTLESS and not encoder.has_text:
        return {name: _wordless(prompts, encoder.dim) for name, prompts in sets.items()}
    encoded = {name: _encode(prompts, encoder, store / "text") for name, prompts in sets.items()}
    return _with_words(encoded, sets, encoder) if "context" in wanted else encoded


def _wordless(prompts: PromptSet, dim: int) -> EncodedPrompts:
    """For modes that read no text: the features say how many there are and how wide, and nothing else."""
    return EncodedPrompts(prompts.name, prompts.grid, tuple(torch.zeros(1, dim) for _ in prompts.texts))


def _with_words(
    encoded: Mapping[str, EncodedPrompts], sets: Mapping[str, PromptSet], encoder: TextEncoder
) -> dict[str, EncodedPrompts]:
    """Add the first text of every region, embedded, and the tower that all share."""
    texts = encoder.embed_texts([region[0] for prompts in sets.values() for region in prompts.texts])
    sizes = [prompts.grid.num_regions for prompts in sets.values()]
    parts = zip(sets, torch.split(texts.embeddings, sizes), torch.split(texts.ends, sizes), strict=True)
    return {
        name: dataclasses.replace(encoded[name], words=ContextWords(texts.tower, embeddings, ends, texts.max_tokens))
        for name, embeddings, ends in parts
    }


def _encode(prompts: PromptSet, encoder: TextEncoder, folder: Path) -> EncodedPrompts:
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
