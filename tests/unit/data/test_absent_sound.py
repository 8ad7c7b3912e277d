"""What modality dropout is for: a model of both streams that is left without one."""

from __future__ import annotations

import numpy as np
import torch

from affectgrid.data.splits.resident import Split
from affectgrid.metrics import CccAccumulator
from affectgrid.training.inference.predict import predict_split
from affectgrid.training.loop import fit
from support.planted import planted_prompts, planted_split, small_config, with_streams


def redundant_split(name: str, lengths: list[int], seed: int) -> Split:
    """Both streams are there in every frame and show both axes; the sound shows them four times as clearly."""
    split = planted_split(name, lengths, seed=seed)
    draw, mapping = np.random.default_rng([seed, 5]), np.random.default_rng(1)
    clear, noisy = (split.va @ mapping.normal(size=(2, size)) for size in (4, 6))
    here = np.ones(len(split.va), dtype=bool)
    return with_streams(
        split,
        audio=(clear + 0.1 * draw.normal(size=clear.shape)).astype(np.float16),
        visual=(noisy + 0.4 * draw.normal(size=noisy.shape)).astype(np.float16),
        audio_present=here,
        visual_present=here,
    )


def scores(modality_dropout: float) -> tuple[float, float]:
    """Validation P with both streams, and of the same model without the sound."""
    train, heard = redundant_split("train", [60, 50, 70, 45, 64, 50], 0), redundant_split("validation", [60, 50, 44], 1)
    config = small_config(
        model__modality_dropout=modality_dropout, model__dropout=0.0, prompt__mode="none", optim__epochs=12
    )
    model = fit(config, train, heard, planted_prompts()).model
    deaf = with_streams(heard, audio_present=np.zeros_like(heard.streams["audio"].present))

    def p(split: Split) -> float:
        pooled = CccAccumulator()
        va = predict_split(model, split, config.window).va
        pooled.update(va, torch.as_tensor(split.va), torch.as_tensor(split.labelled))
        return float(pooled.compute().mean())

    return p(heard), p(deaf)


def test_a_model_that_trained_with_modality_dropout_loses_little_when_the_sound_is_gone():
    torch.set_num_threads(1)
    (heard, deaf), (heard_without, deaf_without) = scores(0.4), scores(0.0)
    print(
        f"P with, without sound: {heard:.3f}, {deaf:.3f}; no modality dropout: {heard_without:.3f}, {deaf_without:.3f}"
    )
    assert heard > 0.9
    assert heard_without > 0.9
    assert heard - deaf < 0.1
    assert heard_without - deaf_without > 2 * (heard - deaf)
