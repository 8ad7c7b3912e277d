"""Every kind of model that the encoders load, by OpenVINO: its features are those of torch, whatever the batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from transformers import (
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    HubertConfig,
    HubertModel,
    PreTrainedModel,
    SiglipConfig,
    SiglipModel,
    ViTImageProcessor,
    ViTMAEConfig,
    ViTMAEModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from affectgrid.encoders.audio import load_audio
from affectgrid.encoders.runtime.choice import choose
from affectgrid.encoders.visual import load_visual
from support.runtimes import needs_openvino

pytestmark = needs_openvino
PICTURES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
SIZED = {**PICTURES, "image_size": 56}
RAW_SOUND = {
    **PICTURES, "conv_dim": (8, 8), "conv_stride": (20, 16), "conv_kernel": (20, 16), "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
WHISPER = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip


def siglip() -> SiglipModel:
    text = {**PICTURES, "vocab_size": 50, "projection_size": 32}
    return SiglipModel(SiglipConfig(text_config=text, vision_config={**SIZED, "patch_size": 14}))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Dinov2Model(Dinov2Config(**SIZED, patch_size=14)),
        siglip,
        lambda: ViTMAEModel(ViTMAEConfig(**SIZED, patch_size=14, mask_ratio=0.0)),
        lambda: ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1] * 4)),
    ],
    ids=["DINOv2", "SigLIP", "ViT-MAE", "ConvNeXt"],
)
def test_image_models_of_transformers(make: Callable[[], PreTrainedModel], tmp_path: Path):
    torch.manual_seed(0)
    make().save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 56, "width": 56}).save_pretrained(tmp_path)
    require_equal_pictures(tmp_path, side=56)


@pytest.mark.parametrize("architecture", ["resnet10t", "vit_tiny_patch16_224"])
def test_image_models_of_timm(architecture: str, tmp_path: Path):
    torch.manual_seed(0)
    save_file(timm.create_model(architecture, num_classes=0).state_dict(), tmp_path / "model.safetensors")
    cut = {"input_size": [3, 224, 224], "interpolation": "bilinear", "mean": [0.4] * 3, "std": [0.3] * 3}
    config = {"architecture": architecture, "num_classes": 0, "pretrained_cfg": cut}
    (tmp_path / "config.json").write_text(json.dumps(config))
    require_equal_pictures(tmp_path, side=224)


def require_equal_pictures(directory: Path, side: int) -> None:
    images = torch.randint(0, 256, (5, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    encoder = load_visual(str(directory))
    expected = encoder.encode_images(images)
    choose(encoder, "openvino", "fp32")
    torch.testing.assert_close(encoder.encode_images(images), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Wav2Vec2Model(Wav2Vec2Config(**RAW_SOUND)),
        lambda: HubertModel(HubertConfig(**RAW_SOUND)),
        lambda: WavLMModel(WavLMConfig(**RAW_SOUND)),
        lambda: WhisperModel(WhisperConfig(**WHISPER)),
    ],
    ids=["wav2vec 2.0", "HuBERT", "WavLM", "Whisper"],
)
@pytest.mark.parametrize("pooling", ["model", "mean+sd"])
def test_sound_models(make: Callable[[], PreTrainedModel], pooling: str, tmp_path: Path):
    torch.manual_seed(0)
    model = make()
    model.save_pretrained(tmp_path)
    extractor = WhisperFeatureExtractor() if isinstance(model, WhisperModel) else Wav2Vec2FeatureExtractor()
    extractor.save_pretrained(tmp_path)
    sound = 0.1 * torch.randn(5, 8000, generator=torch.Generator().manual_seed(0))
    encoder = load_audio(str(tmp_path), window_s=0.5, pooling=pooling)
    expected = encoder.encode_windows(sound)
    choose(encoder, "openvino", "fp32")
    torch.testing.assert_close(encoder.encode_windows(sound), expected, rtol=1e-3, atol=1e-3)
