"""The learning rate and the average's decay over the steps, by hand; the average against a loop."""

from __future__ import annotations

import pytest
import torch

from affectgrid.training.build import build_model
from affectgrid.training.optim import WeightAverage, average_decay, rate_factor
from support.planted import DIMS, planted_prompts, small_config


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1, 1, 0.8535533905932737, 0.5, 0.1464466094067262]),
    ],
)
def test_every_schedule_by_hand(schedule, expected):
    found = [rate_factor(step, 6, warmup_share=1 / 3, schedule=schedule) for step in range(6)]
    assert found == pytest.approx(expected)


def test_the_average_forgets_its_first_weights_early():
    assert [average_decay(step, 0.5) for step in (0, 1, 8, 100)] == pytest.approx([1 / 10, 2 / 11, 0.5, 0.5])


def test_the_average_equals_a_loop_and_leaves_buffers_and_the_model_alone():
    model = build_model(small_config(), dims=DIMS, prompts=planted_prompts())
    average = WeightAverage(model, 0.3)
    name, weight = next(iter(model.named_parameters()))
    expected = weight.detach().clone()
    for step in range(4):
        with torch.no_grad():
            weight.add_(step + 1.0)
        before = weight.detach().clone()
        average.update(model, step)
        keep = min(0.3, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * before
        assert torch.equal(weight, before)
    found = dict(average.model.named_parameters())
    torch.testing.assert_close(found[name].detach(), expected)
    assert not any(parameter.requires_grad for parameter in found.values())
    assert not average.model.training
    for (key, own), theirs in zip(average.model.named_buffers(), model.buffers(), strict=True):
        assert torch.equal(own, theirs), key
