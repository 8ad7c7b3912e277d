"""Ratios on the GPU that is there: bf16 training, and encoding over the bare forward pass and over the machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from affectgrid.distributed import cluster
from affectgrid.encoders.visual import VisualEncoder, load_visual
from benchmarks import bare
from benchmarks.conftest import films, random_clip, say  # noqa: F401 - fixtures
from benchmarks.steady import CORES, configure, run_encode, start_up_s
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
    encoder = load_bf16()
    images = drawn_pictures()

    def whole() -> float:
        started = time.perf_counter()
        encoder.encode_images(images)
        return len(images) / (time.perf_counter() - started)

    ours, limit = alternate([whole, lambda: forward_hz(encoder)], 3)
    say("gpu_encode", ours / limit, f"{ours:.0f} of {limit:.0f} images/s, ViT-B/32 in bf16; {card()}", ">= 0.9")


def test_gpu_encode_pipeline(say: Callable[..., None], films: Callable[..., list[Path]], tmp_path: Path) -> None:  # noqa: F811
    """Films to stored features by `encode`, over the slower of all cores' decoding and the card's forward pass."""
    paths = films(tmp_path / "films", 2 * CORES, num_frames=1024)
    encoder = load_bf16()
    config = configure(random_clip("ViT-B-32"), precision="bf16")
    runs, decoding, forward = [], [], []
    for _ in range(2):
        decoding.append(bare.decode_rate_hz(paths, encoder.preprocess, num_processes=CORES))
        forward.append(forward_hz(encoder))
        with cluster.connect("local", num_cpus=CORES):
            runs.append(run_encode(tmp_path / "films", tmp_path / "store", config, workers=1))
    rate_hz = statistics.median(run.rate_hz for run in runs)
    limits = [statistics.median(rates) for rates in (decoding, forward)]
    figures = (
        f"{rate_hz:.0f} frames/s; {CORES} cores decode {limits[0]:.0f} at 480p, the card encodes {limits[1]:.0f}; "
        f"start-up {start_up_s(runs):.1f} s; {card()}"
    )
    say("gpu_encode_pipeline", rate_hz / min(limits), figures, ">= 0.9")


def load_bf16() -> VisualEncoder:
    return load_visual(str(random_clip("ViT-B-32")), device="cuda", precision="bf16", trusted=True, batch_size=BATCH)


def drawn_pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 3, 224, 224), dtype=np.uint8)


def forward_hz(encoder: VisualEncoder) -> float:
    """Images a second that lie on the card already; nothing is fetched from it."""
    on_card = torch.from_numpy(drawn_pictures()[:BATCH]).cuda()
    encoder.runtime(*encoder.inputs(on_card))
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(NUM_IMAGES // BATCH):
        encoder.runtime(*encoder.inputs(on_card))
    torch.cuda.synchronize()
    return NUM_IMAGES / (time.perf_counter() - started)


def card() -> str:
    return torch.cuda.get_device_name()
