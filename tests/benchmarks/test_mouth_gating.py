"""Does it pay to hear sound only while the mouth is open? On a planted corpus with a second, unseen speaker.

Sound tells arousal while the person speaks; else it tells another person's. Three ways to use how far the mouth is
open, all of which are there already: not at all, as a third stream, and as whether the sound is present.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from affectgrid.data.splits.resident import Split, StreamRows
from affectgrid.training.inference.predict import evaluate, predict_split
from affectgrid.training.loop import fit
from support.planted import AUDIO_DIM, planted_prompts, planted_split, small_config

SEEDS, TRACKS, FRAMES = 5, 24, 200


def with_second_speaker(split: Split, seed: int) -> tuple[Split, np.ndarray]:
    """The corpus, and whether the mouth is open: in turns of about two seconds."""
    rng = np.random.default_rng(seed)
    turns = np.repeat(rng.random((split.num_tracks, FRAMES // 50)) < 0.5, 50, axis=1).reshape(-1)
    other = np.sin(np.arange(split.num_frames) / 17 + rng.uniform(0, 6))[:, None]
    # the direction in which a voice tells arousal is the same for both people
    own = split.streams["audio"].feature.astype(np.float32)
    direction = np.linalg.svd(own - own.mean(0), full_matrices=False)[2][0]
    heard = np.where(turns[:, None], own, 2 * other * direction + 0.1 * rng.standard_normal((len(own), AUDIO_DIM)))
    openness = (turns + 0.15 * rng.standard_normal(len(turns)))[:, None]
    streams = {
        **split.streams,
        "audio": dataclasses.replace(split.streams["audio"], feature=heard.astype(np.float16)),
        "mouth": StreamRows(openness.astype(np.float16), np.ones(len(turns), np.bool_)),
    }
    return dataclasses.replace(split, streams=streams), turns


def gated(split: Split, is_open: np.ndarray) -> Split:
    audio = split.streams["audio"]
    present = audio.present & is_open
    feature = np.where(present[:, None], audio.feature, 0).astype(np.float16)
    return dataclasses.replace(split, streams={**split.streams, "audio": StreamRows(feature, present)})


def test_train_mouth_gating(say: Callable[..., None]) -> None:
    """Mean P over seeds, with the standard deviation."""
    torch.set_num_threads(1)
    train, open_in_train = with_second_speaker(planted_split("train", [FRAMES] * TRACKS), 1)
    held_out, open_in_held_out = with_second_speaker(planted_split("validation", [FRAMES] * 12, seed=2), 2)
    two, three = ("visual", "audio"), ("visual", "audio", "mouth")
    arms: dict[str, tuple[Split, Split, tuple[str, ...]]] = {
        "not at all": (train, held_out, two),
        "a third stream": (train, held_out, three),
        "presence": (gated(train, open_in_train), gated(held_out, open_in_held_out), two),
    }
    scores: dict[str, list[float]] = {name: [] for name in arms}
    for name, (learnt, judged, streams) in arms.items():
        for seed in range(SEEDS):
            settings: dict[str, Any] = {"seed": seed, "model__streams": streams, "optim__epochs": 12}
            config = small_config(**settings)
            model = fit(config, learnt, judged, planted_prompts()).model
            p = evaluate(predict_split(model, judged, config.window), judged, planted_prompts().grid, num_resamples=0).p
            scores[name].append(p)
    told = {name: f"{statistics.mean(own):.3f} +- {statistics.stdev(own):.3f}" for name, own in scores.items()}
    gain = statistics.mean(scores["presence"]) - statistics.mean(scores["a third stream"])
    say("train_mouth_gating", gain, f"P {', '.join(f'{name} {text}' for name, text in told.items())}", "told")
