"""The difference of two configurations: by hand, its variances on planted noise, and its corrected interval."""

from __future__ import annotations

import pytest
import torch

from affectgrid.analysis.bootstrap import MIN_SEEDS, compare, sidak
from affectgrid.metrics import ccc, track_moments


def tracks(noise: float, *, seed: int, count: int = 12) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Predictions that lie `noise` off targets which depend on `count` alone."""
    target, draw = torch.Generator().manual_seed(1), torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        true = torch.rand(50, 2, generator=target) * 2 - 1
        found.append((true + noise * torch.randn(50, 2, generator=draw), true, torch.ones(50, dtype=torch.bool)))
    return found


def moments(noise: float, seeds: tuple[int, ...] = (0, 1)) -> torch.Tensor:
    return torch.stack([track_moments(tracks(noise, seed=seed)) for seed in seeds])


def pooled_p(noise: float, seed: int) -> float:
    prediction, target, _ = (torch.cat(part) for part in zip(*tracks(noise, seed=seed), strict=True))
    return float(sum(ccc(prediction[:, axis], target[:, axis]) for axis in (0, 1)) / 2)


def test_the_estimate_is_the_difference_of_pooled_p_averaged_over_the_seeds():
    found = compare(moments(0.1), moments(0.4))
    expected = sum(pooled_p(0.1, seed) - pooled_p(0.4, seed) for seed in (0, 1)) / 2
    assert found.estimate == pytest.approx(expected, abs=1e-6)
    assert found.low < found.estimate < found.high
    assert (found.num_videos, found.num_seeds) == (12, 2)


def test_equal_configurations_differ_by_nothing_and_seeds_still_might():
    found = compare(moments(0.2), moments(0.2), num_comparisons=50)
    assert (found.estimate, found.video_sd) == (0, 0)
    assert found.low == -found.high
    assert compare(moments(0.2, seeds=(0,)), moments(0.2, seeds=(0,))).high == 0


def test_the_other_way_round_is_the_negative():
    one, other = moments(0.1), moments(0.3)
    there, back = compare(one, other), compare(other, one)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-12)


def test_sidak_by_hand():
    assert sidak(0.95, 1) == 0.95
    assert sidak(0.95, 2) == pytest.approx(0.974679, abs=1e-6)  # the square root of 0.95
    assert 1 - sidak(0.95, 100) > 0.05 / 100  # a little narrower than Bonferroni's
    with pytest.raises(ValueError, match="at least one"):
        sidak(0.95, 0)


def test_more_that_was_tried_widens_the_corrected_interval_alone():
    alone = compare(moments(0.3), moments(0.35))
    hundred = compare(moments(0.3), moments(0.35), num_comparisons=100)
    assert (hundred.low, hundred.high) == (alone.low, alone.high)
    assert hundred.low_corrected < alone.low_corrected
    assert hundred.high_corrected > alone.high_corrected
    assert (alone.low_corrected, alone.high_corrected) == (alone.low, alone.high)


def test_seeds_that_disagree_widen_the_interval_beyond_the_extreme_seed():
    one = torch.stack([track_moments(tracks(noise, seed=3)) for noise in (0.1, 0.6)])  # the second seed went wrong
    other = torch.stack([track_moments(tracks(0.3, seed=4)), track_moments(tracks(0.3, seed=5))])
    found = compare(one, other)
    extremes = [pooled_p(noise, 3) - pooled_p(0.3, 4) for noise in (0.1, 0.6)]
    assert found.low < min(extremes)
    assert found.high > max(extremes)
    scores = torch.tensor([pooled_p(noise, 3) for noise in (0.1, 0.6)])
    assert found.seed_sd == pytest.approx(float(scores.std()) / 2**0.5, rel=0.02)
    assert found.degrees_of_freedom < 1.2


def test_a_seeds_noise_of_its_own_in_each_video_is_not_counted_twice():
    """The targets are the same and the noise is not: all that differs between seeds differs from video to video."""
    one, other = (
        torch.stack([track_moments(tracks(0.4, seed=10 * part + seed, count=60)) for seed in range(8)])
        for part in (1, 2)
    )
    found = compare(one, other)
    assert found.seed_sd < found.video_sd


def test_a_single_seed_borrows_the_others_variance_and_gives_no_verdict():
    several = torch.stack([track_moments(tracks(noise, seed=3)) for noise in (0.1, 0.15, 0.2, 0.25, 0.3)])
    single = moments(0.8, seeds=(0,))
    found = compare(several, single)
    assert found.num_seeds == 1
    scores = torch.tensor([pooled_p(noise, 3) for noise in (0.1, 0.15, 0.2, 0.25, 0.3)])
    assert found.seed_sd == pytest.approx(float(scores.std()) * (1 / 5 + 1) ** 0.5, rel=0.05)
    assert found.low_corrected > 0
    assert not found.holds
    assert compare(single, single).seed_sd == 0


def test_a_difference_holds_from_five_seeds_on():
    for count, holds in ((MIN_SEEDS - 1, False), (MIN_SEEDS, True)):
        seeds = tuple(range(count))
        found = compare(moments(0.1, seeds), moments(0.8, seeds))
        assert found.low_corrected > 0
        assert found.holds is holds
        assert compare(moments(0.8, seeds), moments(0.1, seeds)).holds is holds


def test_a_video_without_labels_changes_nothing_and_other_shapes_are_refused():
    empty = torch.zeros(2, 1, 6, 2, dtype=torch.float64)
    one, other = (torch.cat([moments(noise), empty], 1) for noise in (0.1, 0.2))
    assert compare(one, other).estimate == pytest.approx(compare(moments(0.1), moments(0.2)).estimate)
    with pytest.raises(ValueError, match="same videos"):
        compare(moments(0.1), moments(0.1)[:, 1:])
