"""The tiny encoders, and their features of one batch: what the tests of runtimes compare."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch

from affectgrid.encoders.audio import AudioEncoder, load_audio
from affectgrid.encoders.runtime.precision import native_half
from affectgrid.encoders.visual import VisualEncoder, load_visual

Encoder = VisualEncoder | AudioEncoder
CPU = torch.device("cpu")
HAS_EXTRA = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not HAS_EXTRA, reason="OpenVINO is not here: pip install 'affectgrid[openvino]'")
needs_bf16 = pytest.mark.skipif(native_half(CPU) != "bf16", reason="this processor has no bf16")


def load_sound(**options: Any) -> AudioEncoder:
    return load_audio("tiny", window_s=1.0, **options)


def load_pictures(**options: Any) -> VisualEncoder:
    return load_visual("tiny", **options)


def features(encoder: Encoder) -> torch.Tensor:
    """Of a batch that is no multiple of those before it."""
    generator = np.random.default_rng(3)
    if isinstance(encoder, VisualEncoder):
        return encoder.encode_images(generator.integers(0, 256, (5, 3, 56, 56), dtype=np.uint8))
    return encoder.encode_windows(0.1 * generator.standard_normal((5, 16_000)))


def lowest_cosine(one: Encoder, other: Encoder) -> float:
    return float(torch.cosine_similarity(features(one), features(other)).min())


both = pytest.mark.parametrize("load", [load_pictures, load_sound], ids=["visual", "audio"])
