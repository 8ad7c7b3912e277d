"""The choice of an encoder's precision, with torch."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from affectgrid.encoders.runtime import choice
from affectgrid.encoders.runtime import precision as rule
from affectgrid.encoders.runtime.choice import choose
from affectgrid.encoders.runtime.torch_runtime import TorchRuntime
from affectgrid.errors import ModelError
from support.runtimes import (
    CPU,
    Encoder,
    both,
    features,
    load_pictures,
)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny encoders count as large."""
    monkeypatch.setattr(rule, "MIN_PARAMETERS_TO_ROUND", 1)


# The rule


def test_auto_leaves_small_models_alone_and_takes_the_half_type_for_large_ones(monkeypatch: pytest.MonkeyPatch):
    encoder = load_pictures()
    before = encoder.digest
    choose(encoder, "torch", "auto", half="bf16")
    assert (encoder.precision, encoder.digest) == ("fp32", before)
    monkeypatch.setattr(rule, "MIN_PARAMETERS_TO_ROUND", 1)
    choose(encoder, "torch", "auto", half="bf16")
    assert encoder.precision == "bf16"
    assert encoder.digest == load_pictures(precision="bf16").digest != before


@both
def test_a_model_that_rounding_harms_stays_in_fp32_or_is_refused(load: Callable[..., Encoder], large, monkeypatch):
    monkeypatch.setitem(rule.MIN_COSINE, "bf16", 0.99999999)
    kept, before = load(), load()
    choose(kept, "torch", "auto", half="bf16")
    assert (kept.precision, kept.digest) == ("fp32", before.digest)
    torch.testing.assert_close(features(kept), features(before), rtol=0, atol=0)
    with pytest.raises(ModelError, match=r"MOD-PRECISION .*bf16 features at cosine 0\.99"):
        choose(kept, "torch", "bf16")


class Paced:
    """An encoder whose pace depends on its precision: `waits` seconds a call."""

    name, device, weights = "paced", CPU, "w"

    def __init__(self, waits: dict[torch.dtype, float]) -> None:
        self.network = Waiting(waits)
        self.runtime = TorchRuntime(self.network, "fp32")

    def inputs(self, sample: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (sample,)

    def drawn(self) -> torch.Tensor:
        return torch.eye(4)


class Waiting(torch.nn.Linear):
    def __init__(self, waits: dict[torch.dtype, float]) -> None:
        super().__init__(4, 4)
        self.waits = waits

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        time.sleep(self.waits[self.weight.dtype])
        return super().forward(inputs)


@pytest.mark.parametrize(
    ("full_s", "half_s", "half", "expected"),
    [(0.05, 0.0, None, "bf16"), (0.0, 0.05, None, "fp32"), (0.0, 0.05, "bf16", "bf16")],
)
def test_auto_takes_half_only_where_it_is_faster(full_s, half_s, half, expected, large, monkeypatch):
    monkeypatch.setattr(choice, "native_half", lambda device: "bf16")
    encoder = Paced({torch.float32: full_s, torch.bfloat16: half_s})
    choose(encoder, "torch", "auto", half=half)
    assert encoder.runtime.precision == expected


def test_what_is_stored_stays_as_it_was_chosen(large):
    rounded, again = load_pictures(precision="bf16"), load_pictures()
    choose(again, "torch", "auto", half="fp32", stored=lambda digest: digest == rounded.digest)
    assert (again.precision, again.digest) == ("bf16", rounded.digest)
    fresh = load_pictures()
    choose(fresh, "torch", "auto", half="fp32")
    assert fresh.precision == "fp32"


def test_the_cosine_is_measured_on_the_pictures_that_are_given(caplog: pytest.LogCaptureFixture):
    real = np.random.default_rng(0).integers(0, 256, (3, 3, 56, 56), dtype=np.uint8)
    with caplog.at_level("INFO"):
        choose(load_pictures(), "torch", "bf16", sample=lambda: real)
    assert "on 3 samples" in caplog.text


def test_texts_stay_in_float32():
    encoder = load_pictures()
    before = encoder.encode_texts(["a glad face"])
    choose(encoder, "torch", "bf16")
    torch.testing.assert_close(encoder.encode_texts(["a glad face"]), before, rtol=0, atol=0)
