"""Image and text encoders by open_clip, timm or transformers: a name, a directory, or the seeded ``tiny`` one."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from open_clip.model import CLIP, CustomTextCLIP
from torch import Tensor, nn

from affectgrid.encoders.precision import Resolved, digest_in, recalled, settle, to_device
from affectgrid.encoders.preprocess import ImagePreprocess, normalise
from affectgrid.encoders.tiny import TINY, tiny_visual_directory
from affectgrid.encoders.towers import timm, transformers
from affectgrid.encoders.towers.clip import load_clip_directory, load_clip_named
from affectgrid.encoders.towers.image import bad_config
from affectgrid.encoders.towers.loaded import LoadedImageModel
from affectgrid.encoders.towers.text import EmbeddedTexts, embed_texts
from affectgrid.encoders.weights import digest_weights
from affectgrid.errors import ModelError, Problem
from affectgrid.settings import Precision

_PLAIN = (CLIP, CustomTextCLIP)  # their image features are those of `visual`
Calibration = Callable[[ImagePreprocess], UInt8[np.ndarray, "n 3 height width"] | None]


class VisualEncoder:
    """A frozen image tower and, where the model has one, the text tower that belongs to it.

    ``digest`` names the weights and everything that changes the features: architecture, precision, normalisation.
    ``precision`` is what was resolved. Texts are few, and are encoded in the precision of the pictures.
    """

    def __init__(
        self,
        loaded: LoadedImageModel,
        *,
        name: str,
        device: str,
        precision: Precision,
        half: Resolved | None,
        calibration: Calibration,
        stored: Callable[[str], bool],
        trusted: bool,
    ) -> None:
        self.name, self.device = name, torch.device(device)
        self.preprocess = loaded.preprocess
        self.image_size = loaded.preprocess.image_size
        model = loaded.model.eval().requires_grad_(False)
        self._tokenizer = loaded.tokenizer
        self._tower: nn.Module | None = model.visual if type(model) in _PLAIN else None  # type: ignore[assignment]
        if trusted and self._tower is not None:
            model, self._tokenizer = self._tower, None  # the text tower is half the memory
        self._model = model.to(self.device)
        self._mean = torch.tensor(loaded.mean, device=self.device).view(3, 1, 1)
        self._std = torch.tensor(loaded.std, device=self.device).view(3, 1, 1)
        weights = "" if trusted else digest_weights(model, loaded.settings)

        @functools.cache
        def sample() -> Tensor:
            real = calibration(self.preprocess)
            return self._drawn_images() if real is None else torch.from_numpy(real)

        before = recalled(precision, weights, stored)
        self.precision = settle(
            before or precision, model, lambda: self._encode(sample()), name=name, device=self.device, half=half,
            check=not trusted and before is None,
        )  # fmt: skip
        self.digest = digest_in(weights, self.precision)
        self.dim = int(self._encode(self._drawn_images()[:1]).shape[1])

    @property
    def has_text(self) -> bool:
        """Whether ``encode_texts`` works."""
        return self._tokenizer is not None

    def encode_images(self, images: UInt8[Tensor | np.ndarray, "n 3 height width"]) -> Float[Tensor, "n dim"]:
        """Features of n pictures, float32 on the CPU, not L2-normalised. Other sizes than ``image_size`` are resized.

        Raises ValueError for another type or shape.
        """
        batch = torch.as_tensor(images)
        if batch.dtype != torch.uint8 or batch.ndim != 4 or batch.shape[1] != 3:
            raise ValueError(f"images must be uint8 [n, 3, height, width], not {batch.dtype} {tuple(batch.shape)}")
        if len(batch) == 0:
            return torch.zeros(0, self.dim)
        return self._encode(batch)

    def encode_in_batches(
        self, images: UInt8[np.ndarray, "n 3 height width"], batch_size: int
    ) -> Float[Tensor, "n dim"]:
        """As ``encode_images``, `batch_size` at a time. On a GPU nothing waits before the last batch is under way."""
        if len(images) == 0:
            return torch.zeros(0, self.dim)
        batches = torch.split(torch.as_tensor(images), batch_size)
        with torch.inference_mode():
            return torch.cat([self._forward(to_device(batch, self.device)) for batch in batches]).float().cpu().clone()

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n text_dim"]:
        """Text features, float32 on the CPU, not L2-normalised.

        Raises ModelError (MOD-TEXT) when the model is an image tower only.
        """
        tokenizer = self._require_text()
        with torch.inference_mode():
            tokens = tokenizer(list(texts)).to(self.device)
            features: Tensor = self._model.encode_text(tokens)  # type: ignore[operator]
        return features.float().cpu().clone()

    def embed_texts(self, texts: Sequence[str]) -> EmbeddedTexts:
        """Texts before the text tower, and the tower, for prompts with learnable context.

        The tower is a copy, in float32 on the CPU. Raises ModelError: MOD-TEXT as above, MOD-CONTEXT where it
        cannot be entered there.
        """
        return embed_texts(self._model, self._require_text(), texts, name=self.name)

    def _require_text(self) -> Any:
        if self._tokenizer is None:
            raise ModelError(
                Problem(
                    "MOD-TEXT",
                    where=self.name,
                    found="an image tower without a text tower",
                    expected="a model with both for prompts made of words",
                    hint="take prompt mode 'learned' or 'none', or a CLIP model",
                )
            )
        return self._tokenizer

    def _encode(self, images: Tensor) -> Tensor:
        with torch.inference_mode():
            return self._forward(to_device(images, self.device)).float().cpu().clone()

    def _forward(self, images: Tensor) -> Tensor:
        pixels = normalise(self.preprocess.resize(images), self._mean, self._std)
        pixels = pixels.to(next(self._model.parameters()).dtype)
        # Neither CoCa nor its kin give image features by calling `visual`.
        whole: Callable[[Tensor], Tensor] = getattr(self._model, "encode_image", self._model)
        tower = whole if self._tower is None else self._tower
        features = tower(pixels)
        return features

    def _drawn_images(self) -> Tensor:
        """Where no real picture is at hand: coloured noise, as rough as pictures are."""
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(8, 3, 9, 9, generator=generator)
        side = self.image_size
        smooth = nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")
        noise = 0.1 * torch.rand(8, 3, side, side, generator=generator)
        return ((smooth + noise).clamp(0, 1) * 255).to(torch.uint8)


def load_visual(
    name: str,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    half: Resolved | None = None,
    calibration: Calibration = lambda _: None,
    stored: Callable[[str], bool] = lambda _: False,
    trusted: bool = False,
) -> VisualEncoder:
    """Load a frozen encoder by name.

    Args:
        name: ``tiny`` (random, seeded, made on first use), ``<architecture>/<tag>`` of open_clip such as
            ``ViT-B-32/openai``, ``timm/<name>`` or ``transformers/<name>`` of the hub, or a directory with one
            ``.safetensors`` file and ``open_clip_config.json``, or timm's or transformers' ``config.json``. Models of
            the last two, and open_clip's without ``text_cfg``, are image towers alone.
        device: where it runs.
        precision: of the weights; ``auto`` rounds large models where the hardware is faster in half and the features
            keep a cosine of .999. The digest depends on what it comes to.
        half: what ``auto`` takes; by default the half type of `device`.
        calibration: gives real pictures, prepared, to measure that cosine on; None: drawn ones.
        stored: whether features of an encoder of this digest are stored already: ``auto`` comes to the same again.
        trusted: these weights and this precision were checked before: no digest, no cosine, no text tower.

    Raises ModelError: MOD-NAME, MOD-FETCH (no network: what to fetch and how), MOD-CONFIG, MOD-WEIGHTS, MOD-PICKLE,
    MOD-FIT, MOD-PRECISION.
    """
    return VisualEncoder(
        _load(name),
        name=name,
        device=device,
        precision=precision,
        half=half,
        calibration=calibration,
        stored=stored,
        trusted=trusted,
    )


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
