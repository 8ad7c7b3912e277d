"""The same numbers on a GPU as on the CPU: encoders, models, a training, and a training that is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from affectgrid.encoders.audio import load_audio
from affectgrid.encoders.visual import load_visual
from affectgrid.training.build import build_model
from affectgrid.training.checkpoint import load_checkpoint
from affectgrid.training.inference.predict import predict_split
from affectgrid.training.loop import FitResult, fit
from benchmarks.conftest import random_clip
from support.planted import DIMS, planted_data, planted_prompts, planted_split, small_config

TEMPORAL = ("bigru", "gru", "tcn", "causal-tcn", "transformer", "causal-transformer", "ssm", "causal-ssm", "none")


def cosines(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one.double(), other.double(), dim=-1).min())


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 0.99999), ("bf16", 0.999), ("fp16", 0.999)])
def test_pictures_have_the_features_of_the_cpu(precision: Any, bound: float) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (16, 3, 64, 64), dtype=np.uint8)
    expected = load_visual("tiny").encode_images(pictures)
    found = load_visual("tiny", device="cuda", precision=precision, batch_size=8).encode_images(pictures)
    assert found.device.type == "cpu"
    assert cosines(found, expected) >= bound


def test_pictures_that_do_not_fit_into_memory_together_are_encoded_in_smaller_batches() -> None:
    """The card holds the network and 200 MB more: too little for 256 pictures in float32."""
    pictures = np.random.default_rng(0).integers(0, 256, (300, 3, 224, 224), dtype=np.uint8)
    directory = str(random_clip("ViT-B-32"))
    expected = load_visual(directory).encode_images(pictures[::100])
    encoder = load_visual(directory, device="cuda")
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties().total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 200 * 2**20) / whole)
    try:
        found = encoder.encode_images(pictures)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert encoder._batches.size < 256
    assert cosines(found[::100], expected) >= 0.9999


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 0.9999), ("bf16", 0.999)])
def test_sound_has_the_features_of_the_cpu(precision: Any, bound: float) -> None:
    sound = np.random.default_rng(0).standard_normal(5 * 16_000).astype(np.float32) / 10
    begins = np.arange(0, 4 * 16_000, 3200)
    expected = load_audio("tiny", window_s=1.0).encode_sound(sound, begins)
    found = load_audio("tiny", window_s=1.0, device="cuda", precision=precision).encode_sound(sound, begins)
    assert cosines(found, expected) >= bound


@pytest.mark.parametrize("temporal", TEMPORAL)
def test_a_model_predicts_what_it_predicts_on_the_cpu(temporal: str) -> None:
    """Of the GRUs this is the loop of the CPU against cuDNN."""
    config = small_config(seed=3, model__temporal=temporal)
    model, split = build_model(config, dims=DIMS, prompts=planted_prompts()), planted_split("validation", [60, 33])
    expected = predict_split(model, split, config.window).va
    found = predict_split(model, split, config.window, device="cuda").va
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


def train(device: str, **options: Any) -> FitResult:
    data = planted_data()
    return fit(small_config(seed=1), data.train, data.validation, planted_prompts(), device=device, **options)


def test_a_training_ends_where_the_cpus_does() -> None:
    """Not to the bit: sums are taken in another order."""
    expected, found = train("cpu"), train("cuda")
    for ours, theirs in zip(found.history, expected.history, strict=True):
        assert ours["val/p"] == pytest.approx(theirs["val/p"], abs=0.02)
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=0.02)


def test_a_resumed_training_has_the_bits_of_an_unbroken_one(tmp_path: Path) -> None:
    """TF32 is off and cuDNN deterministic while `fit` runs, whatever the process had set."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        expected = train("cuda")
        folder = tmp_path / "checkpoint"

        def save_first(metrics: dict[str, float], save: Any) -> None:
            if metrics["epoch"] == 1:
                folder.mkdir(exist_ok=True)
                save(folder)

        train("cuda", report=save_first)
        resumed = train("cuda", resume=load_checkpoint(folder))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for name, value in expected.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name].cpu(), value.cpu()), name
