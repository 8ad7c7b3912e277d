"""The ``tiny`` encoders: random, seeded, made on first use, loaded by the same code as any other directory.

They exist for tests and for the demo. Nothing was trained: they are random projections with a transformer's shape, and
a result made with them says so wherever it is shown.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from affectgrid.encoders.towers.quiet import quiet
from affectgrid.errors import ModelError, Problem

TINY = "tiny"
SEED = 2611  # of sixteen tried on another corpus seed, the one whose image features told most

VISUAL_CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 128,
        # Many narrow heads, so that the class token gathers from many places of the face.
        "vision_cfg": {"image_size": 56, "layers": 1, "width": 128, "head_width": 8, "patch_size": 8, "mlp_ratio": 1.0},
        # The tokenizer's 49408 words are most of the file, so they are narrow.
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
}
AUDIO_CONFIG: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "num_mel_bins": 64,
    "max_length": 98,  # one second: (16000 - 400) // 160 + 1 frames
    "patch_size": 16,
    "frequency_stride": 12,
    "time_stride": 12,
}
EXTRACTOR_CONFIG = {
    "feature_extractor_type": "ASTFeatureExtractor",
    "num_mel_bins": AUDIO_CONFIG["num_mel_bins"],
    "max_length": AUDIO_CONFIG["max_length"],
    "sampling_rate": 16000,
    "mean": -8.0,  # our own: near the mean of the rendered voices
    "std": 4.0,
    "do_normalize": True,
    "feature_size": 1,
    "padding_value": 0.0,
    "return_attention_mask": False,
}


def cache_directory() -> Path:
    """``AFFECTGRID_CACHE``, else ``$XDG_CACHE_HOME/affectgrid``, else ``~/.cache/affectgrid``."""
    if given := os.environ.get("AFFECTGRID_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "affectgrid"


def tiny_visual_directory(cache: Path | None = None) -> Path:
    """The open_clip directory of the tiny image and text encoder; made if it is not there."""
    return _make_once("tiny-visual", _write_visual, cache)


def tiny_audio_directory(cache: Path | None = None) -> Path:
    """The transformers directory of the tiny audio spectrogram transformer; made if it is not there."""
    return _make_once("tiny-audio", _write_audio, cache)


def _make_once(kind: str, write: Callable[[Path], None], cache: Path | None) -> Path:
    """Write to a temporary directory and rename it: many processes may come here at once."""
    cache = cache or cache_directory()
    # Named by this very source: weights of an older drawing are never taken for these.
    drawn_by = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    target = cache / f"{kind}-{drawn_by}"
    if target.is_dir():
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{kind}-", dir=cache))
        try:
            with quiet():
                write(temporary)
            _make_readable(temporary)
            temporary.rename(target)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            if not target.is_dir():  # else another process was first, with the same bytes
                raise
    except OSError as error:
        problem = Problem(
            "MOD-CACHE",
            where=str(cache),
            found=str(error),
            expected="a writable cache directory",
            hint="set AFFECTGRID_CACHE to a writable one",
        )
        raise ModelError(problem) from error
    return target


def _make_readable(directory: Path) -> None:
    directory.chmod(0o755)  # a cache may be shared; temporary directories and safetensors files are private
    for path in directory.iterdir():
        path.chmod(0o644)


def _write_visual(directory: Path) -> None:
    import open_clip

    config_path = directory / "open_clip_config.json"
    config_path.write_text(json.dumps(VISUAL_CONFIG, indent=2) + "\n")
    model = open_clip.create_model(f"local-dir:{directory}", load_weights=False)
    # half precision halves the file; open_clip widens it again
    tensors = {name: draw(name, tensor).half() for name, tensor in model.state_dict().items()}
    save_file(tensors, directory / "open_clip_model.safetensors")


def _write_audio(directory: Path) -> None:
    from transformers import ASTConfig, ASTModel

    model = ASTModel(ASTConfig(**AUDIO_CONFIG))
    model.load_state_dict({name: draw(name, tensor) for name, tensor in model.state_dict().items()})
    model.save_pretrained(directory)
    (directory / "preprocessor_config.json").write_text(json.dumps(EXTRACTOR_CONFIG, indent=2) + "\n")


def draw(name: str, like: Tensor) -> Tensor:
    """Random weights for one tensor, from the seed and its name alone.

    Scales are larger than a trained model's start, so that attention picks places out and features differ from input
    to input. Filters are smooth, because faces and spectrograms are; those for images see edges, not brightness.
    """
    generator = torch.Generator().manual_seed(SEED + zlib.crc32(name.encode()))
    shape = like.shape
    leaf = name.rpartition(".")[2]
    if leaf == "logit_scale":
        return torch.tensor(math.log(1 / 0.07))
    if "ln_" in name or "layernorm" in name:
        return torch.ones(shape) if leaf == "weight" else torch.zeros(shape)
    if "bias" in leaf:
        return torch.zeros(shape)
    noise = torch.randn(shape, generator=generator)
    if like.ndim == 4:
        return _smooth_filters(noise, edges=name.startswith("visual."))
    if "positional_embedding" in name or "position_embeddings" in name:
        return 1.5 * noise
    if "embedding" in name or "token" in leaf:
        return noise
    # the text tower's pooled token is the same in every text: what it reads of the others must outweigh it
    gain = 3.0 if name.startswith("transformer.") else 0.3 if "c_proj" in name else 1.2
    return gain * noise / math.sqrt(shape[-1])


def _smooth_filters(noise: Tensor, *, edges: bool) -> Tensor:
    """Patch filters of unit norm from the low frequencies of ``noise``; ``edges``: nearly grey, with zero mean."""
    side = noise.shape[-1]
    smooth: Tensor = nn.functional.interpolate(
        noise[:, :, :4, :4], size=(side, side), mode="bicubic", align_corners=True
    )
    if edges:
        smooth = 0.3 * smooth + 1.7 * smooth.mean(dim=1, keepdim=True)
        smooth = smooth - smooth.mean(dim=(2, 3), keepdim=True)
    norms = smooth.flatten(1).norm(dim=1)
    normalised: Tensor = smooth / norms.view(-1, 1, 1, 1)
    return normalised
