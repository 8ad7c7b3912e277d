"""The spectrogram in torch against transformers' own extractor, which is its reference implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import ASTFeatureExtractor

from affectgrid.encoders.logmel import LogMel, num_mel_frames

SOUNDS = {
    "speech level": lambda rng: 0.1 * rng.standard_normal(16_000),
    "hardly audible": lambda rng: 1e-5 * rng.standard_normal(16_000),
    "silence": lambda rng: np.zeros(16_000),
    "tone on a direct current": lambda rng: 0.3 + 0.2 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000),
    "full scale clicks": lambda rng: (rng.random(16_000) > 0.999).astype(float),
}


@pytest.mark.filterwarnings("ignore:At least one mel filter")  # the extractor's own, for its default of 128
@pytest.mark.parametrize("kind", SOUNDS)
@pytest.mark.parametrize(("num_mel_bins", "max_length"), [(128, 1024), (64, 98), (128, 50)])
def test_equals_the_extractor(kind: str, num_mel_bins: int, max_length: int):
    """Padded to 10 s, exact, and cut short."""
    sound = SOUNDS[kind](np.random.default_rng(0)).astype(np.float32)
    extractor = ASTFeatureExtractor(num_mel_bins=num_mel_bins, max_length=max_length)
    expected = extractor([sound], sampling_rate=16_000, return_tensors="pt")["input_values"]
    front = LogMel(num_mel_bins=num_mel_bins, sample_rate_hz=16_000, mean=extractor.mean, std=extractor.std)
    got = front(torch.from_numpy(sound)[None], num_frames=max_length)
    torch.testing.assert_close(got, expected.float(), atol=1e-4, rtol=0)


def test_frames_are_25_ms_every_10_ms():
    assert [num_mel_frames(n) for n in (0, 399, 400, 559, 560, 16_000)] == [0, 0, 1, 1, 2, 98]
    front = LogMel(num_mel_bins=8, sample_rate_hz=16_000, mean=0, std=0.5)
    for samples in (0, 399, 400, 559, 560, 16_000):
        assert front(torch.zeros(2, samples)).shape == (2, num_mel_frames(samples), 8)


def test_a_tone_lies_in_its_own_filter():
    """1 kHz is mel 1127 ln(1 + 1000/700) = 1000; the 64 centres lie 43.2 mel apart from 31.7 on: number 22 is next."""
    tone = 0.5 * torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000)
    mel = LogMel(num_mel_bins=64, sample_rate_hz=16_000, mean=0, std=0.5)(tone[None])
    assert mel.mean(dim=1).argmax().item() == round((1000.0 - 31.75) / 43.2) - 1


def test_a_batch_equals_its_members_alone():
    sounds = torch.randn(3, 4000, generator=torch.Generator().manual_seed(1))
    front = LogMel(num_mel_bins=32, sample_rate_hz=16_000, mean=-4, std=4)
    torch.testing.assert_close(front(sounds), torch.cat([front(one[None]) for one in sounds]))
