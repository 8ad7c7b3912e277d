"""What computes an encoder: torch's half types, the choice by `auto`, and OpenVINO where its extra is installed."""

from __future__ import annotations

import importlib.util
import logging
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from affectgrid.encoders.audio import AudioEncoder, load_audio
from affectgrid.encoders.runtime import choice
from affectgrid.encoders.runtime import precision as rule
from affectgrid.encoders.runtime.choice import choose
from affectgrid.encoders.runtime.openvino_runtime import extra
from affectgrid.encoders.runtime.precision import native_half
from affectgrid.encoders.runtime.quantised import FOLDER, Quantised
from affectgrid.encoders.runtime.torch_runtime import TorchRuntime
from affectgrid.encoders.visual import VisualEncoder, load_visual
from affectgrid.errors import ModelError, StoreError
from affectgrid.storage import Storage

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


# OpenVINO


@needs_openvino
@both
def test_openvino_gives_the_features_of_torch(load: Callable[..., Encoder]):
    reference, encoder = load(), load()
    choose(encoder, "openvino", "fp32")
    torch.testing.assert_close(features(encoder), features(reference), rtol=1e-3, atol=1e-3)
    trusted = load(runtime="openvino", precision="fp32", trusted=True)  # as a worker opens it
    torch.testing.assert_close(features(trusted), features(encoder), rtol=0, atol=0)
    assert encoder.digest != reference.digest


@needs_openvino
@needs_bf16
@both
def test_openvino_rounds_to_bf16_and_says_so(load: Callable[..., Encoder]):
    reference, encoder = load(), load()
    choose(encoder, "openvino", "bf16")
    assert 0.999 < lowest_cosine(encoder, reference) < 0.9999999
    assert len({encoder.digest, reference.digest, load(precision="bf16").digest}) == 3


@needs_openvino
def test_bf16_that_the_processor_lacks_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rule, "_cpu_flags", set)
    with pytest.raises(ModelError, match=r"MOD-RUNTIME .*bf16 on a processor without it"):
        load_pictures(runtime="openvino", precision="bf16")


@needs_openvino
def test_pictures_in_batches_are_not_overwritten_by_the_next():
    encoder = load_pictures(runtime="openvino")
    images = np.random.default_rng(1).integers(0, 256, (7, 3, 56, 56), dtype=np.uint8)
    torch.testing.assert_close(
        encoder.encode_in_batches(images, 3), encoder.encode_images(images), rtol=1e-4, atol=1e-4
    )


@needs_openvino
def test_a_network_that_cannot_be_converted_says_so():
    class Odd(torch.nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.linalg.qr(inputs)[0]

    with pytest.raises(ModelError, match=r"MOD-CONVERT .*take runtime torch"):
        choice.open_runtime("openvino", "fp32", Odd(), lambda: (torch.eye(3)[None],))


def test_a_missing_extra_is_named_with_the_command_that_installs_it():
    with pytest.raises(ModelError, match=r"MOD-RUNTIME .*pip install 'affectgrid\[openvino\]'"):
        extra("openvino_that_nobody_has")


# int8


@pytest.fixture
def places(tmp_path: Path) -> list[Storage]:
    return [Storage(tmp_path / "store")]


def sample(encoder: Encoder) -> np.ndarray:
    """Sixteen pictures or sounds: eight drawn ones, lighter and darker, or louder and softer."""
    drawn = encoder.drawn().numpy()
    return np.concatenate([drawn, 255 - drawn if drawn.dtype == np.uint8 else 0.3 * drawn])


def in_int8(encoder: Encoder, places: list[Storage]) -> Quantised:
    quantised = choose(encoder, "openvino", "int8", sample=lambda: sample(encoder), places=places)
    assert quantised is not None
    return quantised


@needs_openvino
@both
def test_int8_is_near_and_every_process_computes_the_same(load: Callable[..., Encoder], places: list[Storage]):
    encoder, reference = load(), load()
    quantised = in_int8(encoder, places)
    assert 0.99 < lowest_cosine(encoder, reference) < 0.9999999
    opened = pickle.loads(pickle.dumps(quantised))  # as Ray carries it to a worker
    worker = load(runtime="openvino", precision="int8", quantised=opened, trusted=True)
    torch.testing.assert_close(features(worker), features(encoder), rtol=0, atol=0)
    assert encoder.digest not in (reference.digest, load(runtime="openvino").digest)
    kept = np.load(places[0].folder / quantised.name)["sample"]
    np.testing.assert_array_equal(kept, sample(encoder)[::2])


@needs_openvino
def test_int8_is_calibrated_once_for_a_store(places: list[Storage]):
    first, later = load_pictures(), load_pictures()
    name = in_int8(first, places).name
    before = places[0].stat(name)
    choose(later, "openvino", "int8", sample=lambda: sample(later)[:4], places=places)  # other pictures, later
    assert later.digest == first.digest
    assert [entry.name for entry in places[0].list_files(FOLDER)] == [name.rpartition("/")[2]]
    assert places[0].stat(name) == before


@needs_openvino
def test_the_same_samples_make_the_same_int8_model(tmp_path: Path):
    digests = {in_int8(load_sound(), [Storage(tmp_path / name)]).digest for name in ("one", "two")}
    assert len(digests) == 1


@needs_openvino
def test_an_int8_model_of_another_window_is_another_one(places: list[Storage]):
    names = {in_int8(load_audio("tiny", window_s=window_s), places).key for window_s in (0.5, 1.0)}
    assert len(names) == 2


@needs_openvino
def test_int8_below_its_cosine_is_refused(places: list[Storage], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(rule.MIN_COSINE, "int8", 0.99999999)
    with pytest.raises(ModelError, match=r"MOD-PRECISION .*int8 features at cosine 0\.99"):
        in_int8(load_pictures(), places)


@needs_openvino
def test_int8_is_not_calibrated_on_noise(places: list[Storage]):
    with pytest.raises(ModelError, match=r"MOD-PRECISION .*pictures, or sound, to calibrate"):
        choose(load_pictures(), "openvino", "int8", places=places)


@needs_openvino
def test_a_damaged_int8_model_is_named(places: list[Storage]):
    quantised = in_int8(load_pictures(), places)
    path = places[0].folder / quantised.name
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"STO-DAMAGED .*calibrates again"):
        quantised.open()


@needs_openvino
def test_quantising_is_silent_and_leaves_logging_alone(places: list[Storage], capfd: pytest.CaptureFixture[str]):
    before = logging.getLoggerClass(), logging.root.manager.disable
    in_int8(load_pictures(), places)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert (logging.getLoggerClass(), logging.root.manager.disable) == before
