"""Pictures and windows of sound a second by each runtime and precision, on one thread. See docs/benchmarks.md."""

from __future__ import annotations

import copy
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from affectgrid.encoders.audio import AudioEncoder, load_audio
from affectgrid.encoders.runtime.choice import choose
from affectgrid.encoders.visual import VisualEncoder, load_visual
from affectgrid.storage import Storage
from benchmarks.conftest import random_ast
from support.runtimes import needs_openvino

pytestmark = [needs_openvino, pytest.mark.timeout(3600)]

ARITHMETICS = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
NUM_SAMPLES, BATCH = 64, 16
Encoder = VisualEncoder | AudioEncoder


def pictures() -> np.ndarray:
    """Coloured shapes at many scales: smooth noise under finer and fainter noise."""
    generator = torch.Generator().manual_seed(1)
    levels = torch.zeros(NUM_SAMPLES, 3, 224, 224)
    for side in (3, 7, 14, 56, 224):
        noise = torch.randn(NUM_SAMPLES, 3, side, side, generator=generator)
        levels += torch.nn.functional.interpolate(noise, size=(224, 224), mode="bicubic") / side**0.5
    return (128 + 60 * levels).clamp(0, 255).to(torch.uint8).numpy()


def sounds() -> np.ndarray:
    """A second of chords in noise each, at many loudnesses."""
    generator = np.random.default_rng(1)
    pitches = 80 * 2 ** (5 * generator.random((NUM_SAMPLES, 5, 1)))
    chords = np.sin(2 * np.pi * pitches * np.arange(16_000) / 16_000).mean(axis=1)
    loudness = np.logspace(-2, -0.3, NUM_SAMPLES)[:, None]
    return (loudness * (chords + 0.1 * generator.standard_normal(chords.shape))).astype(np.float32)


def encode(encoder: Encoder, sample: np.ndarray) -> torch.Tensor:
    return encoder.encode_images(sample) if isinstance(encoder, VisualEncoder) else encoder.encode_windows(sample)


@pytest.mark.parametrize("name", ["ViT-B/32", "AST"])
def test_encode_runtime(name: str, vit_b32: Path, say, tmp_path: Path) -> None:
    """Over torch in float32, in the processor's time, with the lowest cosine of the features with its own."""
    torch.set_num_threads(1)
    sample, unit = (pictures(), "images") if name == "ViT-B/32" else (sounds(), "windows")
    loaded = load_visual(str(vit_b32)) if name == "ViT-B/32" else load_audio(str(random_ast()), window_s=1.0)
    encoders = []
    for runtime, precision in ARITHMETICS:
        encoder = copy.copy(loaded)  # they share what they were loaded from
        choose(encoder, runtime, precision, sample=lambda: sample, places=[Storage(tmp_path)])
        encoders.append(encoder)
    features = [encode(encoder, sample) for encoder in encoders]
    cosines = [float(torch.cosine_similarity(each, features[0]).min()) for each in features]
    taken: list[list[float]] = [[] for _ in encoders]
    for _ in range(5):
        for encoder, times in zip(encoders, taken, strict=True):
            started = time.process_time()
            encode(encoder, sample[:BATCH])
            times.append(time.process_time() - started)
    rates = [BATCH / statistics.median(times) for times in taken]
    for (runtime, precision), rate, cosine in zip(ARITHMETICS, rates, cosines, strict=True):
        figures = f"{rate:.1f} over {rates[0]:.1f} {unit}/s, cosine {cosine:.4f}"
        say(f"encode_runtime {name} {runtime} {precision}", rate / rates[0], figures, "told")
