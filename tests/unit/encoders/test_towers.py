"""Image towers of timm and of transformers, from directories as these libraries publish them; weights are random."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    BitImageProcessor,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    SiglipConfig,
    SiglipModel,
    ViTImageProcessor,
    ViTMAEConfig,
    ViTMAEModel,
)

from affectgrid.encoders.visual import load_visual
from affectgrid.errors import ModelError

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 56}
IMAGES = torch.randint(0, 256, (3, 3, 56, 56), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
SQUASHED = ViTImageProcessor(size={"height": 56, "width": 56}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
CUT = BitImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}, resample=3)


def pixels(processor: Any) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (processor.image_mean, processor.image_std))
    return (IMAGES / 255 - mean) / std


def siglip() -> SiglipModel:
    text = {**SMALL, "vocab_size": 50, "projection_size": 32}
    return SiglipModel(SiglipConfig(text_config=text, vision_config={**SMALL, "patch_size": 14}))


def by_token(model: Any, inputs: Tensor) -> Tensor:
    return model(pixel_values=inputs).last_hidden_state[:, 0]


def by_pooler(model: Any, inputs: Tensor) -> Tensor:
    return model(pixel_values=inputs).pooler_output.flatten(1)


def by_vision_tower(model: Any, inputs: Tensor) -> Tensor:
    return model.vision_model(pixel_values=inputs).pooler_output


@pytest.mark.parametrize(
    ("make", "processor", "expected"),
    [
        (lambda: Dinov2Model(Dinov2Config(**SMALL, patch_size=14)), CUT, by_pooler),
        (siglip, SQUASHED, by_vision_tower),
        (lambda: ViTMAEModel(ViTMAEConfig(**SMALL, patch_size=14, mask_ratio=0.0)), SQUASHED, by_token),
        (lambda: ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1] * 4)), CUT, by_pooler),
    ],
    ids=["DINOv2", "SigLIP", "ViT-MAE", "ConvNeXt"],
)
def test_a_directory_of_transformers_gives_the_models_own_features(make, processor, expected, tmp_path: Path):
    torch.manual_seed(0)
    model = make().eval()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    if "mask_ratio" in config:  # as published: it would drop patches at random
        (tmp_path / "config.json").write_text(json.dumps(config | {"mask_ratio": 0.75}))
    encoder = load_visual(str(tmp_path))
    with torch.no_grad():
        reference = expected(model, pixels(processor))
    torch.testing.assert_close(encoder.encode_images(IMAGES), reference, rtol=1e-4, atol=1e-4)
    assert (encoder.image_size, encoder.has_text) == (56, False)
    assert encoder.preprocess.resize_mode == ("shortest" if processor is CUT else "squash")
    trusted = load_visual(str(tmp_path), trusted=True)
    torch.testing.assert_close(trusted.encode_images(IMAGES), encoder.encode_images(IMAGES))


def write_timm(directory: Path, *, num_classes: int = 7) -> torch.nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=num_classes).eval()
    directory.mkdir(exist_ok=True)
    save_file(model.state_dict(), directory / "model.safetensors")
    cut = {"input_size": [3, 64, 64], "interpolation": "bilinear", "mean": [0.4] * 3, "std": [0.3] * 3}
    config = {"architecture": "resnet10t", "num_classes": num_classes, "pretrained_cfg": cut}
    (directory / "config.json").write_text(json.dumps(config))
    return model


def test_a_directory_of_timm_gives_the_features_before_the_classifier(tmp_path: Path):
    model = write_timm(tmp_path / "model")
    encoder = load_visual(str(tmp_path / "model"))
    images = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        reference = model.forward_head(model.forward_features((images / 255 - 0.4) / 0.3), pre_logits=True)
    torch.testing.assert_close(encoder.encode_images(images), reference, rtol=1e-4, atol=1e-4)
    assert (encoder.image_size, encoder.preprocess.interpolation, encoder.dim) == (64, "bilinear", 512)
    write_timm(tmp_path / "copy", num_classes=0)
    body = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("fc.")}
    save_file(body, tmp_path / "copy" / "model.safetensors")
    assert load_visual(str(tmp_path / "copy")).digest == encoder.digest  # the classifier is not the encoder's


def test_what_does_not_load_says_why(tmp_path: Path):
    write_timm(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, said in (
        ({"architecture": "resnet9000"}, "MOD-CONFIG .*resnet9000"),
        ({"architecture": "resnet18"}, "MOD-FIT"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ModelError, match=said):
            load_visual(str(tmp_path))
    for text, said in (("{", "MOD-CONFIG"), ('{"model_type": "nothing"}', "MOD-CONFIG")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ModelError, match=said):
            load_visual(str(tmp_path))
    Dinov2Model(Dinov2Config(**SMALL, patch_size=14)).save_pretrained(tmp_path)
    CUT.save_pretrained(tmp_path)
    wider = json.loads((tmp_path / "config.json").read_text()) | {"hidden_size": 48}
    (tmp_path / "config.json").write_text(json.dumps(wider))
    with pytest.raises(ModelError, match=r"MOD-FIT .*, not "):
        load_visual(str(tmp_path))


@pytest.mark.parametrize("name", ["timm/resnet10t.c3_in1k", "transformers/facebook/dinov2-base"])
def test_without_a_network_a_hub_name_says_what_to_fetch(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=r"MOD-FETCH .*hf download .* --local-dir DIR"):
        load_visual(name)
