"""The ONNX file of a model says what the model says, for windows of any number and length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from affectgrid.errors import ConfigError, ModelError
from affectgrid.training.build import build_model
from affectgrid.training.inference import export
from affectgrid.training.inference.export import export_onnx
from affectgrid.training.inference.package import ModelPackage
from support.planted import DIMS, planted_prompts, small_config

SHAPES = ((1, 7), (3, 40))


def packaged(**settings: object) -> ModelPackage:
    config, prompts = small_config(**settings), planted_prompts()
    model = build_model(config, dims=DIMS, prompts=prompts)
    return ModelPackage(model.eval(), config, prompts.grid, {}, {})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model__temporal": "gru", "window__length": 16},
        {"model__temporal": "tcn", "prompt__mode": "none"},
        {"model__temporal": "causal-transformer", "window__length": 16},
        {"model__temporal": "none", "model__fusion": "concat", "prompt__readout_blend": 0.3},
        {"model__streams": ("audio",), "model__temporal": "transformer", "model__attention_span": 5},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())) or "default",
)
def test_the_file_gives_what_the_model_gives(tmp_path: Path, settings: dict[str, object]):
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    package = packaged(**settings)
    config = package.config
    session = runtime.InferenceSession(str(export_onnx(package, tmp_path / "model.onnx")))
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    draw = np.random.default_rng(0)
    for shape in SHAPES:
        given = {name: draw.normal(size=(*shape, DIMS[name])).astype(np.float32) for name in config.model.streams}
        present = {name: draw.uniform(size=shape) < 0.7 for name in config.model.streams}
        inputs = given | {f"{name}_present": mask for name, mask in present.items()}
        streams = {name: (torch.from_numpy(given[name]), torch.from_numpy(present[name])) for name in given}
        reach = config.window.length - 1 if config.model.causal else 0
        with torch.no_grad():
            expected = package.model(streams, torch.ones(shape, dtype=torch.bool), attention_reach=reach)
        va, *regions = session.run(None, inputs)
        np.testing.assert_allclose(va, expected.va.numpy(), atol=1e-5)
        assert len(regions) == (expected.region_logits is not None)
        for own in regions:
            np.testing.assert_allclose(own, expected.region_logits.softmax(-1).numpy(), atol=1e-5)


def test_a_state_space_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda _: True)
    with pytest.raises(ModelError, match=r"ONNX-TEMPORAL .*model.temporal ssm"):
        export_onnx(packaged(model__temporal="ssm"), tmp_path / "model.onnx")


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"CFG-EXTRA .*no onnx and no onnxscript.*affectgrid\[onnx\]"):
        export_onnx(packaged(), tmp_path / "model.onnx")
