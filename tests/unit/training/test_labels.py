"""Label variants: their exact limits, a width that learns, and why that needs a divergence."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from affectgrid.losses import soft_cross_entropy, soft_divergence
from affectgrid.model.config import SIGMA_RATIO_BOUNDS
from affectgrid.model.labels import LearnedSigma
from affectgrid.regions import RegionGrid, nearest_region, one_hot_labels, soft_labels
from affectgrid.training.config import PromptConfig
from affectgrid.training.inference.package import load_package, save_package
from affectgrid.training.labels import RegionLabels, learned_widths
from affectgrid.training.loop import fit
from support.planted import planted_data, small_config

GRID = RegionGrid.square(3)
POINTS = torch.rand(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
UNIFORM = torch.full((40, 9), 1 / 9, dtype=torch.float64)
CPU = torch.device("cpu")


def labels_of(**settings: object) -> RegionLabels:
    return RegionLabels(PromptConfig.model_validate(settings), GRID, CPU)


def test_per_axis_labels_by_hand():
    # dv = .5 at sigma_v = .5 is exp(-1/2), da = 1 at sigma_a = 1 is exp(-1/2): together one e-fold below the own centre
    grid = RegionGrid.explicit([(0, 0), (0.5, 1)], "ab")
    q = soft_labels(torch.zeros(2, dtype=torch.float64), grid, sigma=(0.5, 1.0))
    expected = torch.tensor([1 / (1 + math.exp(-1)), 1 / (1 + math.e)], dtype=torch.float64)
    torch.testing.assert_close(q, expected)


@given(st.floats(0.05, 5), st.floats(0.05, 5))
def test_per_axis_labels_equal_those_of_a_plane_stretched_to_one_width(valence, arousal):
    stretched = [(v / valence, a / arousal) for v, a in GRID.centres]
    unit = torch.tensor(stretched, dtype=torch.float64)
    expected = soft_labels(POINTS / torch.tensor([valence, arousal], dtype=torch.float64), unit, sigma=1.0)
    torch.testing.assert_close(soft_labels(POINTS, GRID, sigma=(valence, arousal)), expected)
    widths = torch.tensor([valence, arousal], dtype=torch.float64)
    torch.testing.assert_close(soft_labels(POINTS, GRID, sigma=widths), expected)


def test_equal_widths_are_one_width_to_the_last_bit():
    assert torch.equal(soft_labels(POINTS, GRID, sigma=(0.3, 0.3)), soft_labels(POINTS, GRID, sigma=0.3))


def test_an_axis_of_infinite_width_does_not_count():
    q = soft_labels(POINTS, GRID, sigma=(0.3, math.inf)).view(-1, 3, 3)  # rows of arousal, columns of valence
    torch.testing.assert_close(q, q[:, :1].expand_as(q))
    columns = RegionGrid.explicit([(-2 / 3, 0), (0, 0), (2 / 3, 0)], "abc")
    flat = POINTS * torch.tensor([1, 0])
    torch.testing.assert_close(3 * q[:, 0], soft_labels(flat, columns, sigma=0.3))
    torch.testing.assert_close(soft_labels(POINTS, GRID, sigma=(math.inf, math.inf)), UNIFORM)


@pytest.mark.parametrize("sigma", [(1e-300, 1e-300), (1e-6, 1e-3), (1e-3, 1e-3)])
def test_tiny_widths_give_the_one_hot_of_the_nearest_centre(sigma):
    for points in (POINTS, POINTS.float()):
        assert torch.equal(soft_labels(points, GRID, sigma=sigma), one_hot_labels(points, GRID))


@pytest.mark.parametrize("sigma", [(0.3, 0.0), (-1.0, 0.3), (math.nan, 1.0)])
def test_both_widths_must_be_positive(sigma):
    with pytest.raises(ValueError, match="sigma must be > 0"):
        soft_labels(POINTS, GRID, sigma=sigma)


def test_smoothed_labels_by_hand_and_at_both_ends():
    q = one_hot_labels(torch.tensor([0.6, 0.6]), RegionGrid.square(2), smoothing=0.2)
    torch.testing.assert_close(q, torch.tensor([0.05, 0.85, 0.05, 0.05]))
    hard = torch.nn.functional.one_hot(nearest_region(POINTS, GRID), 9).double()
    assert torch.equal(one_hot_labels(POINTS, GRID, smoothing=0), hard)
    assert torch.equal(one_hot_labels(POINTS, GRID, smoothing=1), UNIFORM)
    assert one_hot_labels(torch.zeros(2), RegionGrid.square(2)).tolist() == [1, 0, 0, 0]  # a tie: the first
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="smoothing must lie in"):
            one_hot_labels(POINTS, GRID, smoothing=wrong)


def test_each_kind_of_label_is_the_one_that_its_name_says():
    va = POINTS.float()
    spacing, _ = GRID.spacing
    assert torch.equal(labels_of(sigma_ratio=0.4)(va, None), soft_labels(va, GRID, sigma=0.4 * spacing))
    two = labels_of(sigma_ratio=0.4, sigma_ratio_arousal=0.8)(va, None)
    torch.testing.assert_close(two, soft_labels(va, GRID, sigma=(0.4 * spacing, 0.8 * spacing)))
    assert torch.equal(labels_of(labels="hard")(va, None), one_hot_labels(va, GRID))
    assert torch.equal(labels_of(labels="uniform", smoothing=0.3)(va, None), one_hot_labels(va, GRID, smoothing=0.3))
    widths = torch.tensor([0.2, 0.3])
    torch.testing.assert_close(labels_of(labels="learned")(va, widths), soft_labels(va, GRID, sigma=(0.2, 0.3)))


def test_one_ratio_is_the_same_share_of_the_step_on_both_axes():
    grid, va = RegionGrid.rectangle(5, 2), POINTS.float()
    labels = RegionLabels(PromptConfig(sigma_ratio=0.5), grid, CPU)(va, None)
    torch.testing.assert_close(labels, soft_labels(va, grid, sigma=(0.2, 0.5)))
    learned = LearnedSigma((0.5,), SIGMA_RATIO_BOUNDS, grid.spacing)
    torch.testing.assert_close(learned().detach(), torch.tensor([0.2, 0.5]))


def test_a_learned_width_starts_where_it_is_told_and_stays_within_its_bounds():
    one, two = LearnedSigma((0.3,), (0.1, 2.0)), LearnedSigma((0.3, 0.5), (0.1, 2.0))
    torch.testing.assert_close(one(), torch.tensor([0.3, 0.3]))
    torch.testing.assert_close(two(), torch.tensor([0.3, 0.5]))
    for far, bound in ((-1e4, 0.1), (1e4, 2.0)):
        with torch.no_grad():
            two.position.fill_(far)
        torch.testing.assert_close(two(), torch.full((2,), bound))
    with pytest.raises(ValueError, match=r"must start between 0\.1 and 2"):
        LearnedSigma((2.0,), (0.1, 2.0))


def test_the_divergence_and_its_gradient_by_hand():
    """Two regions, a at distance 0 and b at 1: q_b = s(-u) with u = 1 / (2 sigma^2), against p = 1/2 each.

    KL = log 2 - H(q), dKL/dq_b = log(q_b / q_a) = -u, dq_b/du = -q_a q_b, du/dsigma = -1 / sigma^3.
    """
    grid, sigma = (
        RegionGrid.explicit([(0, 0), (1, 0)], "ab"),
        torch.tensor(0.8, dtype=torch.float64, requires_grad=True),
    )
    q = soft_labels(torch.zeros(1, 2, dtype=torch.float64), grid, sigma=sigma.expand(2))
    loss = soft_divergence(torch.zeros(1, 2), q, torch.ones(1, dtype=torch.bool))
    u = 1 / (2 * 0.8**2)
    q_b = 1 / (1 + math.exp(u))
    q_a = 1 - q_b
    assert float(loss.detach()) == pytest.approx(math.log(2) + q_a * math.log(q_a) + q_b * math.log(q_b))
    (slope,) = torch.autograd.grad(loss, sigma)
    assert float(slope) == pytest.approx((-u) * (-q_a * q_b) * (-1 / 0.8**3))  # below 0: a wider label is nearer to p


def test_the_gradient_of_both_widths_equals_finite_differences():
    generator = torch.Generator().manual_seed(1)
    logits, mask = torch.randn(40, 9, generator=generator), torch.rand(40, generator=generator) < 0.7

    def loss(widths: torch.Tensor) -> torch.Tensor:
        return soft_divergence(logits, soft_labels(POINTS, GRID, sigma=widths), mask)

    widths = torch.tensor([0.35, 0.5], dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(loss(widths), widths)
    for axis in (0, 1):
        step = torch.zeros(2, dtype=torch.float64)
        step[axis] = 1e-5
        numeric = (loss(widths.detach() + step) - loss(widths.detach() - step)) / 2e-5
        assert float(slopes[axis]) == pytest.approx(float(numeric), rel=1e-5)


def test_shares_of_zero_add_nothing_and_pass_on_no_nan():
    one_hot = torch.tensor([[0.0, 1.0], [1.0, 0.0]], requires_grad=True)
    mask = torch.tensor([True, True])
    logits = torch.tensor([[1.0, 2.0], [0.5, 0.0]])
    loss = soft_divergence(logits, one_hot, mask)
    assert float(loss.detach()) == pytest.approx(float(soft_cross_entropy(logits, one_hot.detach(), mask)))
    loss.backward()
    assert bool(torch.isfinite(one_hot.grad).all())
    spoilt = torch.where(torch.tensor([[True], [False]]), one_hot.detach(), torch.nan)
    assert bool(torch.isfinite(soft_divergence(logits, spoilt, torch.tensor([True, False]))))


def descend(measure, start: float) -> float:
    """Where a width goes if it follows `measure` against a head that is sure to within a width of .4."""
    sigma = LearnedSigma((start,), SIGMA_RATIO_BOUNDS)
    head = soft_labels(POINTS, GRID, sigma=0.4).log().float()
    optimizer = torch.optim.Adam(sigma.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        measure(head, soft_labels(POINTS, GRID, sigma=sigma()), torch.ones(40, dtype=torch.bool)).backward()
        optimizer.step()
    return float(sigma()[0].detach())


def test_the_divergence_finds_the_head_s_own_width_and_cross_entropy_runs_to_the_bound():
    for start in (0.2, 1.2):
        assert descend(soft_divergence, start) == pytest.approx(0.4, abs=0.02)
    assert descend(soft_cross_entropy, 0.4) < 0.13  # the bound is .1


@pytest.mark.parametrize("arousal", [None, 0.8])
def test_a_run_moves_its_width_reports_it_and_a_package_keeps_it(tmp_path, arousal):
    data = planted_data()
    prompts = data.prompts["3x3-plain"]
    config = small_config(
        prompt__labels="learned", prompt__sigma_ratio=0.5, prompt__sigma_ratio_arousal=arousal, optim__lr=0.02
    )
    result = fit(config, data.train, data.validation, prompts)
    first, *_, last = result.history
    assert first["train/sigma_valence"] != last["train/sigma_valence"]
    assert (last["train/sigma_valence"] == last["train/sigma_arousal"]) is (arousal is None)
    assert 0 <= last["train/loss_prompt"] < first["train/loss_prompt"]
    save_package(tmp_path / "m", result.model, config, prompts.grid, encoders={}, metrics=result.best)
    assert learned_widths(load_package(tmp_path / "m").model) == learned_widths(result.model)


def test_values_of_frames_without_a_label_never_reach_a_learned_width():
    labels, logits = labels_of(labels="learned"), torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    slopes = []
    for unknown in (0.5, -5.0, math.nan, math.inf):
        sigma = LearnedSigma((0.3,), (0.1, 2.0))
        va = torch.tensor([[0.1, 0.2], [unknown, unknown], [-0.6, 0.4]])
        soft_divergence(logits, labels(va, sigma()), torch.tensor([True, False, True])).backward()
        slopes.append(float(sigma.position.grad))
    assert slopes == [slopes[0]] * 4
    assert slopes[0] != 0


@pytest.mark.parametrize("labels", ["hard", "uniform"])
def test_other_labels_train(labels):
    data = planted_data()
    result = fit(small_config(prompt__labels=labels), data.train, data.validation, data.prompts["3x3-plain"])
    assert result.history[-1]["train/loss_prompt"] < result.history[0]["train/loss_prompt"]
    assert "train/sigma_valence" not in result.history[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"labels": "learned", "sigma_ratio": 0.05}, "must start between 0.1 and 2.0"),
        ({"labels": "learned", "sigma_ratio_arousal": 2.0}, "must start between"),
        ({"sigma_ratio_arousal": 0}, "greater than 0"),
        ({"smoothing": 1.5}, "less than or equal to 1"),
        ({"readout_blend": 0.5, "mode": "none"}, "readout_blend needs a prompt head"),
        ({"readout_blend": 0.5, "weight": 0}, "readout_blend needs a prompt head"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        PromptConfig.model_validate(settings)
