"""The text tower of a CLIP model, entered after its word embeddings: what learnable context needs."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from affectgrid.errors import ModelError, Problem


class TextTower(nn.Module):
    """From embedded tokens to text features. Frozen, in float32, and small beside its model: no table of words.

    Every token sees itself and those before it, so what follows a text's end token changes nothing.
    """

    def __init__(self, tower: Any) -> None:
        super().__init__()
        # copies: they may go to another device and precision than the encoder that they are taken from
        self.transformer: nn.Module = copy.deepcopy(tower.transformer)
        self.ln_final: nn.Module = copy.deepcopy(tower.ln_final)
        self.positions: Tensor = copy.deepcopy(tower.positional_embedding)
        self.projection: nn.Module | Tensor | None = copy.deepcopy(tower.text_projection)
        self.float().cpu().eval().requires_grad_(False)

    def forward(
        self, embedded: Float[Tensor, "text token width"], ends: Int[Tensor, " text"]
    ) -> Float[Tensor, "text dim"]:
        """Features of each text, read at its end token; not normalised. Gradients pass to `embedded`."""
        num_tokens = embedded.shape[1]
        mask = torch.full((num_tokens, num_tokens), -torch.inf, device=embedded.device).triu(1)
        states = self.ln_final(self.transformer(embedded + self.positions[:num_tokens], attn_mask=mask))
        features: Tensor = states[torch.arange(len(ends), device=ends.device), ends]
        if isinstance(self.projection, nn.Linear):
            features = self.projection(features)
        elif self.projection is not None:
            assert isinstance(self.projection, Tensor)
            features = features @ self.projection
        return features


@dataclasses.dataclass(frozen=True, eq=False)
class EmbeddedTexts:
    """Texts as a tower takes them.

    Args:
        tower: where they go next.
        embeddings: start token, words, end token, padding.
        ends: where the end token is.
        max_tokens: the longest text that the tower reads.
    """

    tower: TextTower
    embeddings: Float[Tensor, "text token width"]
    ends: Int[Tensor, " text"]
    max_tokens: int


def embed_texts(model: nn.Module, tokenizer: Callable[..., Any], texts: Sequence[str], *, name: str) -> EmbeddedTexts:
    """Look up the words of `texts`, on the CPU. Raises ModelError (MOD-CONTEXT) where the tower is no CLIP's own."""
    tower: Any = model.text if isinstance(model, CustomTextCLIP) else model
    found = _hindrance(tower)
    if found:
        raise ModelError(
            Problem(
                "MOD-CONTEXT",
                where=name,
                found=found,
                expected="a text tower of CLIP's kind, which takes embedded tokens and reads a text at its end token",
                hint="take another prompt.mode, e.g. 'ensemble', or such a CLIP model, e.g. ViT-B-32/laion2b_s34b_b79k",
            )
        )
    with torch.inference_mode(False), torch.no_grad():
        tokens: Tensor = tokenizer(list(texts)).to(tower.token_embedding.weight.device)
        embeddings = tower.token_embedding(tokens).float().cpu()
    ends = tokens.argmax(1) if _pooling(tower) == "argmax" else (tokens == _end_token(tower)).int().argmax(1)
    return EmbeddedTexts(TextTower(tower), embeddings, ends.cpu(), int(tower.context_length))


def _hindrance(tower: Any) -> str:
    """Why learnable context cannot stand in texts of this tower; empty where it can."""
    if not isinstance(tower, CLIP | TextTransformer):
        return f"a text tower of another kind ({type(tower).__name__})"
    if getattr(tower, "cls_emb", None) is not None:
        return "a text tower that reads a text at a token of its own"
    if tower.attn_mask is None or _pooling(tower) not in ("argmax", "eos"):
        return "a text tower that reads a text elsewhere than at its end token"
    return ""


def _pooling(tower: Any) -> str:
    return str(tower.text_pool_type if isinstance(tower, CLIP) else tower.pool_type)


def _end_token(tower: Any) -> int:
    return int(tower.text_eos_id if isinstance(tower, CLIP) else tower.eos_id)
