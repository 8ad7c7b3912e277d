"""A planted corpus where neither face nor voice tells valence: the stream that does is found, clear of chance."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from affectgrid.analysis.bootstrap import compare
from affectgrid.data.splits.resident import Split, StreamRows
from affectgrid.training.inference.predict import moments_by_video, predict_split
from affectgrid.training.loop import fit
from support.planted import planted_prompts, planted_split, small_config

SEEDS = (0, 1, 2)
TRAIN, VALIDATION = [40, 45, 50, 38, 44, 52, 41, 47], [60] * 24


def with_planted(name: str, lengths: list[int], seed: int) -> Split:
    """Visual features are noise; audio shows arousal, as everywhere here; `planted` shows valence, with gaps."""
    split, draw = planted_split(name, lengths, seed=seed), np.random.default_rng([seed, 7])
    noise = draw.normal(size=split.streams["visual"].feature.shape).astype(np.float16)
    mixed = split.va[:, :1] * np.array([[1.0, -0.5, 2.0]]) + 0.1 * draw.normal(size=(split.num_frames, 3))
    streams = {
        "visual": StreamRows(noise, split.streams["visual"].present),
        "audio": split.streams["audio"],
        "planted": StreamRows(mixed.astype(np.float16), np.arange(split.num_frames) % 7 != 0),
    }
    return dataclasses.replace(split, streams=streams)


def test_p_with_the_stream_is_above_p_without_it() -> None:
    train, validation = with_planted("train", TRAIN, 0), with_planted("validation", VALIDATION, 1)
    moments = {}
    for streams in (("visual", "audio"), ("visual", "audio", "planted")):
        found = []
        for seed in SEEDS:
            config = small_config(seed=seed, model__streams=streams, optim__epochs=15, prompt__mode="none")
            model = fit(config, train, validation, planted_prompts()).model
            found.append(moments_by_video(predict_split(model, validation, config.window), validation))
        moments[len(streams)] = torch.stack(found)
    gain = compare(moments[3], moments[2])
    assert gain.low > 0
    assert gain.estimate > 0.2
