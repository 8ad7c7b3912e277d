"""OpenVINO as an encoder's runtime, and int8; skipped where the extra is missing."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from affectgrid.encoders.audio import load_audio
from affectgrid.encoders.runtime import choice
from affectgrid.encoders.runtime import precision as rule
from affectgrid.encoders.runtime.choice import choose
from affectgrid.encoders.runtime.openvino_runtime import extra
from affectgrid.encoders.runtime.quantised import FOLDER, Quantised
from affectgrid.errors import ModelError, StoreError
from affectgrid.storage import Storage
from support.runtimes import (
    Encoder,
    both,
    features,
    load_pictures,
    load_sound,
    lowest_cosine,
    needs_bf16,
    needs_openvino,
)


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
    encoder, in_threes = load_pictures(runtime="openvino"), load_pictures(runtime="openvino", batch_size=3)
    images = np.random.default_rng(1).integers(0, 256, (7, 3, 56, 56), dtype=np.uint8)
    torch.testing.assert_close(in_threes.encode_images(images), encoder.encode_images(images), rtol=1e-4, atol=1e-4)


@needs_openvino
def test_a_network_that_cannot_be_converted_says_so():
    class Odd(torch.nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.linalg.qr(inputs)[0]

    with pytest.raises(ModelError, match=r"MOD-CONVERT .*take runtime torch"):
        choice.open_runtime("openvino", "fp32", Odd(), lambda: (torch.eye(3)[None],))


@needs_openvino
def test_the_extra_reports_nothing_to_its_maker(tmp_path: Path):
    script = "from affectgrid.encoders.runtime.openvino_runtime import extra; extra('openvino'); extra('nncf')"
    home = os.environ | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], env=home, check=True, timeout=300)
    assert not (tmp_path / "intel").exists()  # where openvino_telemetry keeps its identifier


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
