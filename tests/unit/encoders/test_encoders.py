"""Frozen encoders: what they compute, and what they refuse to load.

Longer than 300 lines: image, text and sound encoders share the local checkpoints that this file makes.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from affectgrid.encoders.audio import AudioEncoder, load_audio
from affectgrid.encoders.preprocess import ImagePreprocess
from affectgrid.encoders.tiny import tiny_audio_directory, tiny_visual_directory
from affectgrid.encoders.towers.audio_window import fit_positions
from affectgrid.encoders.towers.conversion import convert_weights
from affectgrid.encoders.towers.image import build_image_tower
from affectgrid.encoders.visual import VisualEncoder, load_visual
from affectgrid.errors import ModelError

TOWER = {"embed_dim": 16, "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}}


@pytest.fixture(scope="module")
def visual() -> VisualEncoder:
    return load_visual("tiny")


@pytest.fixture(scope="module")
def audio() -> AudioEncoder:
    return load_audio("tiny", window_s=1.0)


@pytest.fixture
def clip_directory(tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_visual_directory(), tmp_path / "clip"))


@pytest.fixture
def ast_directory(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_audio_directory(), tmp_path / "ast"))


def pictures(n: int, height: int, width: int) -> np.ndarray:
    """Smooth random pictures, as photographs are."""
    small = np.random.default_rng(0).integers(0, 256, (n, 9, 9, 3), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC)) for one in small]
    )


# Images and texts


def test_features_have_the_promised_shape_and_do_not_depend_on_company(visual: VisualEncoder):
    images = pictures(5, visual.image_size, visual.image_size).transpose(0, 3, 1, 2)
    features = visual.encode_images(images)
    assert features.shape == (5, visual.dim)
    assert features.dtype == torch.float32
    alone = torch.cat([visual.encode_images(images[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(features, alone, atol=1e-5, rtol=1e-5)
    assert torch.pdist(features).min() > 0.1, "different pictures, different features"
    assert visual.encode_images(images[:0]).shape == (0, visual.dim)


def test_equals_open_clips_own_path(visual: VisualEncoder):
    """The same directory through open_clip's transform (PIL) and model, nothing of ours in between."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tiny_visual_directory()}")
    rgb = pictures(3, 112, 112)
    with torch.inference_mode():
        expected = model.eval().encode_image(torch.stack([transform(Image.fromarray(one)) for one in rgb]))
    ours = visual.encode_images(np.stack([visual.preprocess(one) for one in rgb]))
    assert torch.cosine_similarity(ours, expected).min() > 0.999
    texts = ["a calm face", "an angry voice"]
    tokens = open_clip.get_tokenizer(f"local-dir:{tiny_visual_directory()}")(texts)
    with torch.inference_mode():
        torch.testing.assert_close(visual.encode_texts(texts), model.encode_text(tokens))


@pytest.mark.parametrize("size", [(112, 112), (90, 160), (240, 101), (40, 40)])
def test_preprocessing_is_a_grey_level_from_open_clips(size: tuple[int, int]):
    transform = open_clip.image_transform(56, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    for rgb in pictures(2, *size):
        expected = (transform(Image.fromarray(rgb)) * 255).round().numpy()
        difference = np.abs(ImagePreprocess(56)(rgb).astype(int) - expected)
        assert difference.max() <= 1


@pytest.mark.parametrize(("mode", "expected"), [("shortest", 0), ("squash", 0), ("longest", 28)])
def test_resize_modes(mode: str, expected: int):
    """A white picture twice as wide as high: only ``longest`` leaves black rows, half of them."""
    image = ImagePreprocess(56, mode)(np.full((50, 100, 3), 255, dtype=np.uint8))
    assert image.shape == (3, 56, 56)
    assert int((image[0] == 0).all(axis=1).sum()) == expected


def test_texts_differ_and_repeat(visual: VisualEncoder):
    texts = ["a very happy face", "a sad face", "an excited voice", "a sleepy person"]
    features = torch.nn.functional.normalize(visual.encode_texts(texts), dim=-1)
    assert features.shape == (4, visual.dim)
    cosines = (features @ features.T)[~torch.eye(4, dtype=torch.bool)]
    assert cosines.max() < 0.9999  # eight dimensions of random words: near, never equal
    torch.testing.assert_close(features, torch.nn.functional.normalize(visual.encode_texts(texts), dim=-1))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 3, 56, 56), dtype=np.float32),
        np.zeros((3, 56, 56), dtype=np.uint8),
        np.zeros((1, 56, 56, 3), np.uint8),
    ],
)
def test_other_than_uint8_channels_first_is_refused(visual: VisualEncoder, images: np.ndarray):
    with pytest.raises(ValueError, match=r"uint8 \[n, 3, height, width\]"):
        visual.encode_images(images)


def test_the_digest_follows_weights_and_settings_and_not_the_place(visual: VisualEncoder, clip_directory: Path):
    assert load_visual(str(clip_directory)).digest == visual.digest
    config_path = clip_directory / "open_clip_config.json"
    config = json.loads(config_path.read_text())
    config["preprocess_cfg"]["mean"] = [0.4, 0.5, 0.5]
    config_path.write_text(json.dumps(config))
    other_mean = load_visual(str(clip_directory)).digest
    weights = clip_directory / "open_clip_model.safetensors"
    tensors = load_file(weights)
    tensors["visual.proj"][0, 0] += 1
    save_file(tensors, weights)
    assert len({visual.digest, other_mean, load_visual(str(clip_directory)).digest}) == 3


def test_rounded_weights_are_another_encoder_with_near_features(visual: VisualEncoder):
    rounded = load_visual("tiny", precision="bf16")
    images = pictures(4, 56, 56).transpose(0, 3, 1, 2)
    cosine = torch.cosine_similarity(rounded.encode_images(images), visual.encode_images(images))
    assert 0.999 < cosine.min() < 1.0
    assert rounded.digest != visual.digest


# Model directories that are wrong


def test_weights_of_another_architecture_are_named(clip_directory: Path):
    config_path = clip_directory / "open_clip_config.json"
    config = json.loads(config_path.read_text())
    config["model_cfg"]["embed_dim"] = 64
    config_path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"MOD-FIT .*size mismatch for visual.proj"):
        load_visual(str(clip_directory))


def test_missing_tensors_are_named(clip_directory: Path, ast_directory: Path):
    for directory, name in ((clip_directory, "visual.class_embedding"), (ast_directory, "layernorm.weight")):
        (weights,) = directory.glob("*.safetensors")
        tensors = load_file(weights)
        del tensors[name]
        save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"MOD-FIT .*visual.class_embedding"):
        load_visual(str(clip_directory))
    with pytest.raises(ModelError, match=r"MOD-FIT .*layernorm.weight is missing"):
        load_audio(str(ast_directory))


@pytest.mark.parametrize("load", [load_visual, load_audio])
def test_pickles_several_and_no_weights_are_refused(load, tmp_path: Path):
    source = tiny_visual_directory() if load is load_visual else tiny_audio_directory()
    directory = Path(shutil.copytree(source, tmp_path / "model"))
    (weights,) = directory.glob("*.safetensors")
    shutil.copy(weights, directory / "second.safetensors")
    with pytest.raises(ModelError, match="MOD-MANY"):
        load(str(directory))
    (directory / "second.safetensors").unlink()
    torch.save(load_file(weights), directory / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(ModelError, match=r"MOD-PICKLE .*convert_weights"):
        load(str(directory))
    (directory / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="MOD-WEIGHTS"):
        load(str(directory))


@pytest.mark.parametrize(
    "content", ["", "{}", '{"model_cfg": 3}', '{"model_cfg": {"embed_dim": 8, "vision_cfg": {"no": 1}}}']
)
def test_a_wrong_configuration_is_a_model_error(clip_directory: Path, content: str):
    (clip_directory / "open_clip_config.json").write_text(content)
    with pytest.raises(ModelError, match="MOD-CONFIG"):
        load_visual(str(clip_directory))


def test_a_wrong_audio_configuration_is_a_model_error(ast_directory: Path):
    (ast_directory / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(ModelError, match="MOD-CONFIG"):
        load_audio(str(ast_directory))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ViT-B-23/openai", "did you mean 'ViT-B-32'"),
        ("ViT-B-32/opnai", "did you mean 'openai'"),
        ("./nowhere", "no such"),
    ],
)
def test_an_unknown_name_gets_the_nearest(name: str, says: str):
    with pytest.raises(ModelError, match=f"MOD-NAME .*{says}"):
        load_visual(name)


def test_without_a_network_the_error_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"MOD-FETCH .*hf download timm/resnet50_clip.yfcc15m .* --local-dir DIR"):
        load_visual("RN50/yfcc15m")
    with pytest.raises(ModelError, match=r"MOD-FETCH .*hf download MIT/ast-finetuned-speech-commands-v2"):
        load_audio("MIT/ast-finetuned-speech-commands-v2")


# Image towers alone, and the conversion of pickled weights


def converted(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> tuple[Path, object]:
    source = tmp_path / "weights.pth"
    torch.save(tensors, source)
    conversion = convert_weights(source, tmp_path / "model", model_cfg=TOWER, preprocess_cfg={"mean": [0.5] * 3})
    return tmp_path / "model", conversion


def test_an_image_tower_alone_has_no_texts(tmp_path: Path):
    tower = build_image_tower(TOWER).eval()
    directory, conversion = converted(tmp_path, dict(tower.state_dict()))
    encoder = load_visual(str(directory))
    assert (encoder.dim, encoder.image_size, encoder.has_text) == (16, 16, False)
    assert conversion.matched_by == "name"
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.encode_images(images), tower((images / 255 - 0.5) / std))
    with pytest.raises(ModelError, match=r"MOD-TEXT .*'learned' or 'none'"):
        encoder.encode_texts(["a face"])


def test_foreign_names_are_matched_in_order_and_the_classifier_dropped(tmp_path: Path):
    tower = build_image_tower(TOWER)
    foreign = {f"_{i}.{name.rpartition('.')[2]}": tensor for i, (name, tensor) in enumerate(tower.state_dict().items())}
    foreign |= {"_fc.weight": torch.zeros(10, 16), "_fc.bias": torch.zeros(10)}
    directory, conversion = converted(tmp_path, foreign)
    assert conversion.matched_by == "order"
    assert conversion.dropped == ("_fc.weight", "_fc.bias")
    assert "2 dropped (_fc.weight, _fc.bias)" in str(conversion)
    for name, tensor in load_file(directory / "model.safetensors").items():
        torch.testing.assert_close(tensor, tower.state_dict()[name])


def test_weights_that_fit_neither_way_are_refused(tmp_path: Path):
    tensors = {f"_{i}": torch.zeros(3, 3) for i in range(40)}
    with pytest.raises(ModelError, match=r"MOD-FIT .*_0 \(3, 3\) stands where the architecture has"):
        converted(tmp_path, tensors)
    with pytest.raises(ModelError, match=r"MOD-FIT .*1 tensors where"):
        converted(tmp_path, {"_0": torch.zeros(3, 3)})


class _RunsCode:
    def __reduce__(self):
        return (os.mkdir, (os.environ["AFFECTGRID_TEST_TRAP"],))


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trap = tmp_path / "sprung"
    monkeypatch.setenv("AFFECTGRID_TEST_TRAP", str(trap))
    torch.save({"weight": _RunsCode()}, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match="MOD-PICKLE"):
        convert_weights(tmp_path / "evil.pth", tmp_path / "model", model_cfg=TOWER)
    assert not trap.exists()


# Sound


def test_sound_equals_transformers_own_path():
    """At the model's own length: the extractor's spectrogram through the model, nothing of ours in between."""
    directory = str(tiny_audio_directory())
    extractor, model = AutoFeatureExtractor.from_pretrained(directory), AutoModel.from_pretrained(directory).eval()
    sound = 0.1 * torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        inputs = extractor(list(sound.numpy()), sampling_rate=16_000, return_tensors="pt")
        expected = model(**inputs).pooler_output
    for window_s in (None, 1.0):
        torch.testing.assert_close(
            load_audio("tiny", window_s=window_s).encode_windows(sound), expected, atol=1e-3, rtol=0
        )


def test_loudness_and_pitch_show(audio: AudioEncoder):
    time_s = torch.arange(16_000) / 16_000
    tones = [level * torch.sin(2 * torch.pi * hz * time_s) for level, hz in ((0.3, 200), (0.03, 200), (0.3, 400))]
    features = audio.encode_windows(torch.stack(tones))
    assert features.shape == (3, audio.dim)
    assert torch.pdist(features).min() > 0.5
    assert audio.encode_windows(torch.zeros(0, 16_000)).shape == (0, audio.dim)


@pytest.mark.parametrize("window_s", [0.5, 2.0])
def test_other_windows_fit_the_position_embeddings(window_s: float):
    encoder = load_audio("tiny", window_s=window_s)
    assert encoder.encode_windows(torch.randn(2, encoder.window_samples)).isfinite().all()
    with pytest.raises(ValueError, match="samples, not 16000"):
        encoder.encode_windows(torch.zeros(1, 16_000))


def test_a_window_shorter_than_a_patch_is_refused():
    """Sixteen frames of 10 ms and the last one's 15 ms more: 0.175 s."""
    with pytest.raises(ModelError, match=r"MOD-WINDOW .*0.175"):
        load_audio("tiny", window_s=0.17)
    load_audio("tiny", window_s=0.175)


def test_fewer_columns_are_the_middle_ones_and_more_are_interpolated():
    """Two rows of four columns, after two class tokens."""
    positions = torch.tensor([90.0, 91, 0, 1, 2, 3, 10, 11, 12, 13]).view(1, 10, 1)
    cut = fit_positions(positions, (2, 4), 2)
    assert cut.flatten().tolist() == [90, 91, 1, 2, 11, 12]
    wide = fit_positions(positions, (2, 4), 8).flatten()
    assert wide[:2].tolist() == [90, 91]
    torch.testing.assert_close(wide[2:10], torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]))
    torch.testing.assert_close(wide[10:], wide[2:10] + 10)
    assert fit_positions(positions, (2, 4), 4) is positions


def test_the_audio_digest_follows_weights_and_not_the_place(audio: AudioEncoder, ast_directory: Path):
    assert load_audio(str(ast_directory)).digest == audio.digest
    (weights,) = ast_directory.glob("*.safetensors")
    tensors = load_file(weights)
    tensors["layernorm.bias"][0] += 1
    save_file(tensors, weights, metadata={"format": "pt"})
    assert load_audio(str(ast_directory)).digest != audio.digest


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
CONVOLUTIONS = {
    "conv_dim": (8, 8), "conv_stride": (20, 16), "conv_kernel": (20, 16), "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "model"), [(Wav2Vec2Config, Wav2Vec2Model), (HubertConfig, HubertModel), (WavLMConfig, WavLMModel)]
)
def test_models_of_raw_sound_are_averaged_over_time(config, model, tmp_path: Path):
    """wav2vec 2.0, HuBERT, WavLM: raw sound in, no pooled output, their own extractor."""
    torch.manual_seed(0)
    theirs = model(config(**SMALL, **CONVOLUTIONS)).eval()
    theirs.save_pretrained(tmp_path)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    extractor.save_pretrained(tmp_path)
    sound = torch.randn(2, 8000)
    with torch.inference_mode():
        inputs = extractor(list(sound.numpy()), sampling_rate=16_000, return_tensors="pt")
        expected = theirs(**inputs).last_hidden_state.mean(dim=1)
    encoder = load_audio(str(tmp_path), window_s=0.5)
    torch.testing.assert_close(encoder.encode_windows(sound), expected, atol=1e-4, rtol=1e-4)
    assert encoder.dim == 16


def test_another_layer_and_the_deviation_can_be_read(tmp_path: Path):
    torch.manual_seed(0)
    theirs = Wav2Vec2Model(Wav2Vec2Config(**{**SMALL, "num_hidden_layers": 3}, **CONVOLUTIONS)).eval()
    theirs.save_pretrained(tmp_path)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    extractor.save_pretrained(tmp_path)
    sound = torch.randn(2, 8000)
    with torch.inference_mode():
        inputs = extractor(list(sound.numpy()), sampling_rate=16_000, return_tensors="pt")
        states = theirs(**inputs, output_hidden_states=True).hidden_states[2]
    plain = load_audio(str(tmp_path), window_s=0.5)
    second = load_audio(str(tmp_path), window_s=0.5, layer=2)
    torch.testing.assert_close(second.encode_windows(sound), states.mean(1), atol=1e-4, rtol=1e-4)
    both = load_audio(str(tmp_path), window_s=0.5, layer=-2, pooling="mean+sd")  # of four: the same layer
    expected = torch.cat([states.mean(1), states.std(1, correction=0)], -1)
    torch.testing.assert_close(both.encode_windows(sound), expected, atol=1e-4, rtol=1e-4)
    assert (second.dim, both.dim) == (16, 32)
    assert len({plain.digest, second.digest, both.digest}) == 3
    assert load_audio(str(tmp_path), window_s=0.5, layer=2, pooling="mean").digest == second.digest
    with pytest.raises(ModelError, match=r"MOD-LAYER .*layer 4; expected 0 .* to 3"):
        load_audio(str(tmp_path), window_s=0.5, layer=4)


@pytest.fixture
def whisper_directory(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=64, num_mel_bins=80, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    WhisperModel(config).save_pretrained(tmp_path)
    WhisperFeatureExtractor().save_pretrained(tmp_path)
    return tmp_path


def test_whispers_encoder_hears_the_window_and_not_thirty_seconds(whisper_directory: Path):
    theirs = WhisperModel.from_pretrained(whisper_directory).get_encoder().eval()
    sound = 0.1 * torch.randn(2, 8000)
    inputs = WhisperFeatureExtractor()(list(sound.numpy()), sampling_rate=16_000, return_tensors="pt", max_length=8000)
    mel = inputs["input_features"]
    assert mel.shape == (2, 80, 50)
    with torch.inference_mode():  # the reference: its layers by hand, on 25 of its 1500 positions
        hidden = torch.nn.functional.gelu(theirs.conv2(torch.nn.functional.gelu(theirs.conv1(mel)))).permute(0, 2, 1)
        hidden = hidden + theirs.embed_positions.weight[:25]
        for layer in theirs.layers:
            out = layer(hidden, None)
            hidden = out[0] if isinstance(out, tuple) else out
        expected = theirs.layer_norm(hidden).mean(dim=1)
    encoder = load_audio(str(whisper_directory), window_s=0.5)
    torch.testing.assert_close(encoder.encode_windows(sound), expected, atol=1e-4, rtol=1e-3)


def test_whisper_hears_thirty_seconds_at_most(whisper_directory: Path):
    with pytest.raises(ModelError, match="MOD-WINDOW"):
        load_audio(str(whisper_directory), window_s=31.0)


# Loading


def test_a_trusted_load_computes_the_same_without_checks(visual: VisualEncoder, audio: AudioEncoder):
    images = pictures(3, 56, 56).transpose(0, 3, 1, 2)
    again = load_visual("tiny", trusted=True)
    assert not again.has_text
    torch.testing.assert_close(again.encode_images(images), visual.encode_images(images), rtol=0, atol=0)
    sound = np.random.default_rng(0).standard_normal((2, 16_000)).astype(np.float32)
    heard = load_audio("tiny", window_s=1.0, trusted=True)
    torch.testing.assert_close(heard.encode_windows(sound), audio.encode_windows(sound), rtol=0, atol=0)


@pytest.mark.parametrize("step", [3200, 1600, 1000])  # 1000 is no multiple of the spectrogram's hop
def test_overlapping_windows_share_a_spectrogram_and_equal_windows_alone(audio: AudioEncoder, step: int):
    sound = 0.1 * torch.randn(40_000, generator=torch.Generator().manual_seed(0))
    begins = np.arange(160, 30_000, step)  # the last reaches beyond the end
    padded = torch.nn.functional.pad(sound, (0, 16_000))
    alone = audio.encode_windows(torch.stack([padded[b : b + 16_000] for b in begins]))
    torch.testing.assert_close(audio.encode_sound(sound, begins), alone, atol=1e-4, rtol=1e-4)
    in_fours = load_audio("tiny", window_s=1.0, batch_size=4)
    torch.testing.assert_close(in_fours.encode_sound(sound, begins), alone, atol=1e-4, rtol=1e-4)
    assert audio.encode_sound(sound, []).shape == (0, audio.dim)


def test_loading_is_silent_and_leaves_logging_alone(capfd: pytest.CaptureFixture[str]):
    import logging

    before = logging.getLogger().handlers[:], logging.getLogger().filters[:]
    load_visual("tiny")
    load_audio("tiny")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert (logging.getLogger().handlers, logging.getLogger().filters) == before
