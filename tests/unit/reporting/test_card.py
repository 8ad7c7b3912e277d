"""The card of a model says what the model is, from the package and the data alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.reporting.study.card import model_card
from affectgrid.training.build import build_model
from affectgrid.training.inference.package import load_package, save_package
from affectgrid.training.inference.predict import evaluate, predict_split
from affectgrid.training.manifest import collect
from support.planted import DIMS, planted_data, planted_prompts, small_config

ENCODERS = {
    "visual": "ViT-B-32/openai",
    "audio": "tiny",
    "visual_stream": VisualStream(model="ViT-B-32/openai").model_dump_json(),
    "audio_stream": AudioStream().model_dump_json(),
}
PRINTS = {"visual": "0123456789abcdef", "audio": "fedcba9876543210"}


def test_a_card_says_what_the_model_is_and_what_its_score_is_worth(tmp_path: Path):
    data, prompts = planted_data(), planted_prompts()
    config = small_config(window__smooth_half_width=4, window__rate_hz=12.5)
    model = build_model(config, dims=DIMS, prompts=prompts)
    facts = {"encoders": ENCODERS, "metrics": {}, "fingerprints": PRINTS}
    package = load_package(save_package(tmp_path / "model", model, config, prompts.grid, **facts))
    scores = evaluate(predict_split(package.model, data.validation, config.window), data.validation, package.grid)
    splits, origin = [data.train, data.validation], dataclasses.replace(collect(data="feed"), commit="c0ffee")
    told = {"caveat": "Says nothing of people.", "chosen": "Chosen among 7 trials.", "registered": "affect"}
    card = model_card("quick", package, scores, splits, origin, **told)
    p = scores.intervals.p
    assert f"| P, their mean | {p.estimate:.3f} | {p.low:.3f} to {p.high:.3f} |" in card
    assert f"| validation | 3 | 99 | {int(data.validation.labelled.sum())} |" in card
    for stream, name in (("visual", "ViT-B-32/openai"), ("audio", "tiny")):
        assert f"| {stream} | {name} | `{PRINTS[stream]}` | `{{" in card
    assert "**Says nothing of people.**" in card
    assert "bootstrap over validation videos. Chosen among 7 trials." in card
    assert "up to 0.7 s later than their frame" in card  # half a window of sound, and a hop
    assert "| windows | 24 frames at 12.5 Hz rate |" in card
    assert "| smoothing | 4 and 4 frames on each side |" in card
    assert "c0ffee" in card
    assert 'load_model("models:/affect@champion")' in card


def test_what_was_not_recorded_is_said(tmp_path: Path):
    data, config, prompts = planted_data(), small_config(), planted_prompts()
    model = build_model(config, dims=DIMS, prompts=prompts)
    package = load_package(save_package(tmp_path / "model", model, config, prompts.grid, encoders={}, metrics={}))
    scores = evaluate(predict_split(package.model, data.validation, config.window), data.validation, package.grid)
    card = model_card("quick", package, scores, [data.train, data.validation], collect(data="feed"))
    assert "| visual | unknown | `not recorded` | not recorded |" in card
    assert "an unknown time" in card
    assert "models:/MODEL_ID" in card
