"""Predictions read out of the regions: by hand, at both ends, and the same wherever a model predicts."""

from __future__ import annotations

import math

import pytest
import torch

from affectgrid.metrics import CccAccumulator
from affectgrid.model.readout import Readout
from affectgrid.regions import RegionGrid, expected_centre
from affectgrid.training.build import build_model
from affectgrid.training.inference.package import load_package, save_package
from affectgrid.training.inference.predict import predict_split
from affectgrid.training.loop import fit
from support.planted import DIMS, planted_data, planted_prompts, small_config


def test_a_blend_by_hand():
    grid = RegionGrid.explicit([(-1, 0), (1, 0.5)], "ab")
    logits = torch.tensor([math.log(0.25), math.log(0.75)]) + 3  # expected centre: (.5, .375)
    va = torch.tensor([0.1, -0.125])
    torch.testing.assert_close(Readout(grid, 0.25)(va, logits), torch.tensor([0.2, 0.0]))
    assert torch.equal(Readout(grid, 0.0)(va, logits), va)
    torch.testing.assert_close(Readout(grid, 1.0)(va, logits), torch.tensor([0.5, 0.375]))


def output_of(blend: float, *, training: bool):
    config = small_config(prompt__readout_blend=blend, model__dropout=0.0, model__modality_dropout=0.0)
    model = build_model(config, dims=DIMS, prompts=planted_prompts()).train(training)
    generator = torch.Generator().manual_seed(0)
    there = torch.ones(2, 5, dtype=torch.bool)
    return model({name: (torch.randn(2, 5, dim, generator=generator), there) for name, dim in DIMS.items()}, there)


def test_the_model_blends_in_evaluation_alone():
    head, whole = output_of(0.0, training=False), output_of(1.0, training=False)
    centres = expected_centre(head.region_logits.softmax(-1), RegionGrid.square(3))
    torch.testing.assert_close(whole.va, centres)
    torch.testing.assert_close(output_of(0.3, training=False).va, 0.7 * head.va + 0.3 * centres)
    assert torch.equal(output_of(1.0, training=True).va, output_of(0.0, training=True).va)


def test_validation_prediction_and_package_agree_and_training_is_untouched(tmp_path):
    data = planted_data()
    prompts = data.prompts["3x3-plain"]
    config = small_config(prompt__readout_blend=1.0, optim__epochs=6)
    result = fit(config, data.train, data.validation, prompts)
    plain = fit(small_config(optim__epochs=6), data.train, data.validation, prompts)
    assert [m["train/loss"] for m in result.history] == [m["train/loss"] for m in plain.history]
    assert result.best["val/p"] != plain.best["val/p"]
    va = predict_split(result.model, data.validation, config.window).va
    pooled = CccAccumulator()
    pooled.update(va, torch.as_tensor(data.validation.va), torch.as_tensor(data.validation.labelled))
    assert float(pooled.compute().mean()) == pytest.approx(result.best["val/p"], abs=1e-9)
    assert float(va.abs().max()) <= 2 / 3 + 1e-6  # within the hull of the centres
    save_package(tmp_path / "m", result.model, config, prompts.grid, encoders={}, metrics=result.best)
    package = load_package(tmp_path / "m")
    assert torch.equal(predict_split(package.model, data.validation, package.config.window).va, va)
