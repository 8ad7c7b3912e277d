"""Image and text encoders by open_clip, timm or transformers: a name, a directory, or the seeded ``tiny`` one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from open_clip.model import CLIP, CustomTextCLIP
from torch import Tensor, nn

from affectgrid.encoders.preprocess import normalise
from affectgrid.encoders.runtime.batches import Batches
from affectgrid.encoders.runtime.choice import open_runtime
from affectgrid.encoders.runtime.interface import Runtime
from affectgrid.encoders.runtime.precision import Resolved, digest_in
from affectgrid.encoders.runtime.quantised import Quantised
from affectgrid.encoders.runtime.torch_runtime import to_device
from affectgrid.encoders.tiny import TINY, tiny_visual_directory
from affectgrid.encoders.towers import timm, transformers
from affectgrid.encoders.towers.clip import load_clip_directory, load_clip_named
from affectgrid.encoders.towers.image import bad_config
from affectgrid.encoders.towers.loaded import LoadedImageModel
from affectgrid.encoders.towers.text import EmbeddedTexts, embed_texts
from affectgrid.encoders.weights import digest_weights
from affectgrid.errors import ModelError, Problem
from affectgrid.settings import RuntimeName

_PLAIN = (CLIP, CustomTextCLIP)  # their image features are those of `visual`


class VisualEncoder:
    """A frozen image tower and, where the model has one, the text tower that belongs to it.

    Texts are few, and are always encoded in float32 by torch.
    """

    def __init__(
        self,
        loaded: LoadedImageModel,
        *,
        name: str,
        device: str,
        runtime: RuntimeName,
        precision: Resolved,
        quantised: Quantised | None,
        trusted: bool,
        batch_size: int | None,
    ) -> None:
        self.name, self.device = name, torch.device(device)
        self.preprocess = loaded.preprocess
        self.image_size = loaded.preprocess.image_size
        model = loaded.model.eval().requires_grad_(False)
        self.weights = "" if trusted else digest_weights(model, loaded.settings)
        self._tokenizer = None if trusted else loaded.tokenizer
        self._texts = None if trusted else model.to(self.device)  # a text tower is half the memory
        self._mean = torch.tensor(loaded.mean, device=self.device).view(3, 1, 1)
        self._std = torch.tensor(loaded.std, device=self.device).view(3, 1, 1)
        network = _image_network(model).to(self.device)
        self.runtime: Runtime = open_runtime(runtime, precision, network, lambda: self.inputs(self.drawn()), quantised)
        self.network: nn.Module = nn.Identity() if trusted else network
        self._batches = Batches(self.device, batch_size)
        self.dim = int(self.runtime(*self.inputs(self.drawn()[:1])).shape[1])

    @property
    def precision(self) -> Resolved:
        """What it computes in."""
        return self.runtime.precision

    @property
    def digest(self) -> str:
        """Names the weights and everything that changes the features: architecture, normalisation, arithmetic."""
        return digest_in(self.weights, self.runtime.label)

    @property
    def has_text(self) -> bool:
        """Whether ``encode_texts`` works."""
        return self._tokenizer is not None

    def encode_images(self, images: UInt8[Tensor | np.ndarray, "n 3 height width"]) -> Float[Tensor, "n dim"]:
        """Features of n pictures, float32 on the CPU, not L2-normalised. Other sizes than ``image_size`` are resized.

        Raises ValueError for another type or shape.
        """
        given = torch.as_tensor(images)
        if given.dtype != torch.uint8 or given.ndim != 4 or given.shape[1] != 3:
            raise ValueError(f"images must be uint8 [n, 3, height, width], not {given.dtype} {tuple(given.shape)}")
        if len(given) == 0:
            return torch.zeros(0, self.dim)
        return self._batches.run(len(given), lambda part: self.runtime(*self.inputs(given[part])))

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n text_dim"]:
        """Text features, float32 on the CPU, not L2-normalised.

        Raises ModelError (MOD-TEXT) when the model is an image tower only.
        """
        model, tokenizer = self._require_text()
        with torch.inference_mode():
            tokens = tokenizer(list(texts)).to(self.device)
            features: Tensor = model.encode_text(tokens)  # type: ignore[operator]
        return features.float().cpu().clone()

    def embed_texts(self, texts: Sequence[str]) -> EmbeddedTexts:
        """Texts before the text tower, and the tower, for prompts with learnable context.

        The tower is a copy, in float32 on the CPU. Raises ModelError: MOD-TEXT as above, MOD-CONTEXT where it
        cannot be entered there.
        """
        return embed_texts(*self._require_text(), texts, name=self.name)

    def _require_text(self) -> tuple[nn.Module, Any]:
        if self._tokenizer is None or self._texts is None:
            raise ModelError(
                Problem(
                    "MOD-TEXT",
                    where=self.name,
                    found="an image tower without a text tower",
                    expected="a model with both for prompts made of words",
                    hint="take prompt mode 'learned' or 'none', or a CLIP model",
                )
            )
        return self._texts, self._tokenizer

    def inputs(self, sample: UInt8[Tensor | np.ndarray, "n 3 height width"]) -> tuple[Tensor, ...]:
        """Pictures as the network takes them."""
        images = to_device(torch.as_tensor(sample), self.device)
        return (normalise(self.preprocess.resize(images), self._mean, self._std),)

    def drawn(self) -> UInt8[Tensor, "8 3 size size"]:
        """Pictures for where no real one is at hand: coloured noise, as rough as pictures are."""
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(8, 3, 9, 9, generator=generator)
        side = self.image_size
        smooth = nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")
        noise = 0.1 * torch.rand(8, 3, side, side, generator=generator)
        return ((smooth + noise).clamp(0, 1) * 255).to(torch.uint8)


def _image_network(model: nn.Module) -> nn.Module:
    """What gives image features when it is called with normalised pictures."""
    if type(model) in _PLAIN:
        visual: nn.Module = model.visual  # type: ignore[assignment]
        return visual
    return _ImageFeatures(model) if hasattr(model, "encode_image") else model


class _ImageFeatures(nn.Module):
    """Neither CoCa nor its kin give image features by calling `visual`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.model.encode_image(pixels)  # type: ignore[operator]
        return features


def load_visual(
    name: str,
    *,
    device: str = "cpu",
    runtime: RuntimeName = "torch",
    precision: Resolved = "fp32",
    quantised: Quantised | None = None,
    trusted: bool = False,
    batch_size: int | None = None,
) -> VisualEncoder:
    """Load a frozen encoder by name.

    Args:
        name: ``tiny`` (random, seeded, made on first use), ``<architecture>/<tag>`` of open_clip such as
            ``ViT-B-32/openai``, ``timm/<name>`` or ``transformers/<name>`` of the hub, or a directory with one
            ``.safetensors`` file and ``open_clip_config.json``, or timm's or transformers' ``config.json``. Models of
            the last two, and open_clip's without ``text_cfg``, are image towers alone.
        device: where it runs.
        runtime, precision: what computes it, taken at their word: `runtime.choice.choose` finds out what is harmless.
            The digest depends on both.
        quantised: the same network in int8, which that precision needs.
        trusted: these weights were looked at before: no digest, no text tower.
        batch_size: most pictures in one forward pass; see `Batches`.

    Raises ModelError: MOD-NAME, MOD-FETCH (no network: what to fetch and how), MOD-CONFIG, MOD-WEIGHTS, MOD-PICKLE,
    MOD-FIT, MOD-RUNTIME, MOD-CONVERT.
    """
    return VisualEncoder(
        _load(name), name=name, device=device, runtime=runtime, precision=precision, quantised=quantised,
        trusted=trusted, batch_size=batch_size,
    )  # fmt: skip


def _load(name: str) -> LoadedImageModel:
    if name == TINY:
        return load_clip_directory(tiny_visual_directory())
    if Path(name).is_dir():
        return _load_directory(Path(name))
    if name.startswith((".", "/", "~")):
        raise ModelError(
            Problem(
                "MOD-NAME",
                where=name,
                found="no such directory",
                expected="a model directory",
                hint="correct the path of the model",
            )
        )
    if name.startswith(timm.PREFIX):
        return timm.load_timm_named(name)
    if name.startswith(transformers.PREFIX):
        return transformers.load_transformers(name.removeprefix(transformers.PREFIX), local=False)
    return load_clip_named(name)


def _load_directory(directory: Path) -> LoadedImageModel:
    """By the library whose configuration lies there; open_clip's error where none does."""
    config = directory / "config.json"
    if not config.exists() or (directory / "open_clip_config.json").exists():
        return load_clip_directory(directory)
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise bad_config(str(config), f"{type(error).__name__}: {error}") from error
    if isinstance(content, dict) and "architecture" in content:
        return timm.load_timm_directory(directory)
    return transformers.load_transformers(str(directory), local=True)
