"""Ratios on the GPU that is there: bf16 training, and encoding over the bare forward pass."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from affectgrid.encoders.visual import load_visual
from benchmarks.conftest import random_clip, say  # noqa: F401 - a fixture
from benchmarks.timing import alternate, epoch_seconds
from support.planted import planted_prompts, planted_split, small_config

pytestmark = pytest.mark.benchmark
NUM_IMAGES, BATCH = 4096, 256


def test_gpu_train_bf16(say: Callable[..., None]) -> None:  # noqa: F811
    """An epoch in float32 over one in bf16 autocast, width 256."""
    from affectgrid.training.data import PreparedData

    split = planted_split("train", [3000] * 16)
    data = PreparedData(train=split, validation=planted_split("validation", [300], seed=1),
                        prompts={"3x3-plain": planted_prompts()}, fingerprint="planted")  # fmt: skip
    wide = {"model__hidden_dim": 256, "model__num_heads": 4, "window__length": 300, "window__stride": 300}

    def epoch(precision: str) -> float:
        return epoch_seconds(small_config(optim__precision=precision, **wide), data, data.train, data.validation)

    fp32, bf16 = alternate([lambda: epoch("fp32"), lambda: epoch("bf16")], 3)
    say("gpu_train_bf16", fp32 / bf16, f"{fp32:.2f} over {bf16:.2f} s an epoch; {card()}", ">= 1.4")


def test_gpu_encode(say: Callable[..., None]) -> None:  # noqa: F811
    """Images in the host's memory to features there, over the forward pass on images that are on the card already."""
    encoder = load_visual(str(random_clip("ViT-B-32")), device="cuda", precision="bf16", trusted=True)
    images = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 3, 224, 224), dtype=np.uint8)
    on_card = torch.from_numpy(images[:BATCH]).cuda()

    def whole() -> float:
        started = time.perf_counter()
        encoder.encode_images(images)
        return NUM_IMAGES / (time.perf_counter() - started)

    def bare() -> float:
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(NUM_IMAGES // BATCH):
            encoder.runtime(*encoder.inputs(on_card))
        torch.cuda.synchronize()
        return NUM_IMAGES / (time.perf_counter() - started)

    ours, limit = alternate([whole, bare], 3)
    say("gpu_encode", ours / limit, f"{ours:.0f} of {limit:.0f} images/s, ViT-B/32 in bf16; {card()}", ">= 0.9")


def card() -> str:
    return torch.cuda.get_device_name()
