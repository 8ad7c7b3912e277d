"""The paired difference of two configurations: by hand, against a reference loop, and its corrected interval."""

from __future__ import annotations

import pytest
import torch

from affectgrid.analysis.bootstrap import paired_difference, sidak
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
    found = paired_difference(moments(0.1), moments(0.4))
    expected = sum(pooled_p(0.1, seed) - pooled_p(0.4, seed) for seed in (0, 1)) / 2
    assert found.estimate == pytest.approx(expected, abs=1e-6)
    assert found.low < found.estimate < found.high
    assert (found.num_tracks, found.num_seeds) == (12, 2)


def test_equal_configurations_differ_by_nothing_in_every_resample():
    found = paired_difference(moments(0.2), moments(0.2), num_comparisons=50)
    assert (found.estimate, found.low, found.high, found.low_corrected, found.high_corrected) == (0, 0, 0, 0, 0)


def test_the_other_way_round_is_the_negative():
    one, other = moments(0.1), moments(0.3)
    there, back = paired_difference(one, other), paired_difference(other, one)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-12)


def test_sidak_by_hand():
    assert sidak(0.95, 1) == 0.95
    assert sidak(0.95, 2) == pytest.approx(0.974679, abs=1e-6)  # the square root of 0.95
    assert 1 - sidak(0.95, 100) > 0.05 / 100  # a little narrower than Bonferroni's
    with pytest.raises(ValueError, match="at least one"):
        sidak(0.95, 0)


def test_more_that_was_tried_widens_the_interval_and_draws_more():
    alone = paired_difference(moments(0.3), moments(0.35))
    hundred = paired_difference(moments(0.3), moments(0.35), num_comparisons=100)
    assert (hundred.low, hundred.high) == pytest.approx((alone.low, alone.high), abs=5e-3)
    assert hundred.low_corrected < alone.low_corrected
    assert hundred.high_corrected > alone.high_corrected
    assert (alone.low_corrected, alone.high_corrected) == (alone.low, alone.high)
    tail = (1 - hundred.corrected_confidence) / 2
    assert hundred.num_resamples * tail >= 10


def test_drawing_seeds_too_widens_where_seeds_disagree():
    one = torch.stack([track_moments(tracks(noise, seed=3)) for noise in (0.1, 0.6)])  # the second seed went wrong
    other = torch.stack([track_moments(tracks(0.3, seed=4)), track_moments(tracks(0.3, seed=5))])
    narrow, wide = paired_difference(one, other), paired_difference(one, other, redraw_seeds=True)
    assert wide.estimate == narrow.estimate
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_the_interval_covers_as_often_as_it_says():
    """Two configurations of one quality: 0 lies outside about one interval in twenty."""
    outside = 0
    for repeat in range(60):
        one, other = (torch.stack([track_moments(tracks(0.4, seed=1000 * repeat + part, count=40))]) for part in (1, 2))
        found = paired_difference(one, other)
        outside += not found.low <= 0 <= found.high
    assert outside <= 9  # binomial with 1/20: more than 9 of 60 has a chance of one in a thousand


def test_a_track_without_labels_changes_nothing_and_other_shapes_are_refused():
    empty = torch.zeros(2, 1, 6, 2, dtype=torch.float64)
    one, other = (torch.cat([moments(noise), empty], 1) for noise in (0.1, 0.2))
    assert paired_difference(one, other).estimate == pytest.approx(
        paired_difference(moments(0.1), moments(0.2)).estimate
    )
    with pytest.raises(ValueError, match="same seeds and tracks"):
        paired_difference(moments(0.1), moments(0.1, seeds=(0,)))
