"""A text encoder that has read sentences, for prompts: any sentence-transformers model, from a directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from affectgrid.encoders.weights import digest_weights, find_safetensors
from affectgrid.errors import ModelError, Problem


class TextEncoder(Protocol):
    """What encodes prompts: a CLIP model's text tower, or a sentence encoder."""

    @property
    def digest(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def has_text(self) -> bool: ...
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n text_dim"]: ...
    def embed_texts(self, texts: Sequence[str]) -> Any: ...


class SentenceEncoder:
    """Mean over a transformer's last states of a text's tokens, to length 1, as sentence-transformers has it.

    Args:
        directory: ``config.json``, ``model.safetensors`` and a tokenizer's files. Nothing is fetched.
    """

    def __init__(self, directory: Path) -> None:
        from transformers import AutoModel, AutoTokenizer  # takes seconds, and few runs need it

        if not directory.is_dir():
            raise _no_model(directory, "no such directory")
        find_safetensors(directory)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
            model = AutoModel.from_pretrained(str(directory), local_files_only=True, use_safetensors=True)
        except (OSError, ValueError, KeyError) as error:
            raise _no_model(directory, str(error).splitlines()[0]) from error
        self._model = model.float().eval().requires_grad_(False)
        self.dim = int(model.config.hidden_size)
        self.digest = digest_weights(self._model, {"text": "mean of tokens, normalised", "type": type(model).__name__})
        self.name = str(directory)

    @property
    def has_text(self) -> bool:
        """Always."""
        return True

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n text_dim"]:
        """Features of length 1, in the order of the texts; what is beyond the model's longest text is cut off."""
        limit = int(self._model.config.max_position_embeddings)
        tokens = self._tokenizer(list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt")
        states: Tensor = self._model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
        return normalize((states * mask).sum(1) / mask.sum(1), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> NoReturn:
        """Learnable context stands in texts of a CLIP model alone. Raises ModelError (MOD-CONTEXT)."""
        hint = "take another prompt.mode, e.g. 'ensemble', or leave --text-model out"
        raise ModelError(
            Problem("MOD-CONTEXT", where=self.name, found="a sentence encoder", expected="CLIP's text tower", hint=hint)
        )


def _no_model(directory: Path, found: str) -> ModelError:
    expected = "a directory of a sentence-transformers model: config.json, model.safetensors, tokenizer.json"
    hint = "download one where there is network, e.g. sentence-transformers/all-MiniLM-L6-v2"
    return ModelError(Problem("MOD-TEXT", where=str(directory), found=found, expected=expected, hint=hint))
