import itertools
import math

import audmetric
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torchmetrics.functional import concordance_corrcoef

from affectgrid.metrics import (
    CccAccumulator,
    batch_moments,
    bootstrap_ccc,
    ccc,
    ccc_from_moments,
    region_scores,
    track_moments,
)
from affectgrid.regions import RegionGrid

finite = st.floats(-1, 1, width=32)
pairs = st.lists(st.tuples(finite, finite), min_size=2, max_size=40)


def series(num_frames: int = 60, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(num_frames, 2, generator=generator) * 2 - 1
    prediction = 0.6 * target + 0.2 * torch.randn(num_frames, 2, generator=generator) + 0.1
    return prediction, target, torch.rand(num_frames, generator=generator) < 0.8


def reference_ccc(x: np.ndarray, y: np.ndarray) -> float:
    covariance = np.mean((x - x.mean()) * (y - y.mean()))
    return float(2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def test_ccc_penalises_a_constant_shift():
    target = torch.tensor([-1.0, 0.0, 1.0])  # variance 2/3, covariance 2/3
    torch.testing.assert_close(ccc(target + 1, target), torch.tensor(4 / 7))


def test_ccc_penalises_a_scale():
    target = torch.tensor([-1.0, 0.0, 1.0])  # 2 * (1/3) / (1/6 + 2/3) = 4/5
    torch.testing.assert_close(ccc(target / 2, target), torch.tensor(0.8))


def test_ccc_of_itself_its_mirror_and_a_constant():
    target = torch.tensor([-0.5, 0.25, 0.5, 0.1])
    assert float(ccc(target, target)) == pytest.approx(1)
    centred = target - target.mean()
    assert float(ccc(-centred, centred)) == pytest.approx(-1)
    assert float(ccc(torch.full((4,), 0.3), target)) == pytest.approx(0, abs=1e-15)
    assert float(ccc(target, torch.full((4,), 0.3))) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("constant", [0.0, 0.3, -1.0, 1 / 3])
def test_one_constant_against_itself_scores_zero(constant):
    same = torch.full((1001,), constant)
    assert float(ccc(same, same)) == 0


def test_no_frame_has_no_ccc():
    assert math.isnan(ccc(torch.ones(3), torch.ones(3), torch.zeros(3, dtype=torch.bool)))
    assert torch.isnan(CccAccumulator().compute()).all()


@given(pairs)
def test_ccc_equals_the_oracles(values):
    x, y = np.array(values, dtype=np.float64).T
    assume(x.std() > 1e-3)
    assume(y.std() > 1e-3)
    ours = float(ccc(torch.tensor(x), torch.tensor(y)))
    assert ours == pytest.approx(reference_ccc(x, y), abs=1e-9)
    assert ours == pytest.approx(float(audmetric.concordance_cc(y, x)), abs=1e-6)
    # torchmetrics divides its moments by n - 1, but not the squared difference of the means: equal without the latter
    x, y = torch.tensor(x - x.mean()), torch.tensor(y - y.mean())
    assert float(ccc(x, y)) == pytest.approx(float(concordance_corrcoef(x, y)), abs=1e-5)


@pytest.mark.filterwarnings("ignore:The variance of predictions or target is close to zero")
def test_torchmetrics_says_nan_where_the_value_is_zero():
    target = torch.tensor([-1.0, 0.0, 1.0])
    assert math.isnan(concordance_corrcoef(torch.full((3,), 0.5), target))  # why the oracle is not the implementation
    assert float(ccc(torch.full((3,), 0.5), target)) == 0


@given(pairs)
def test_ccc_is_symmetric_and_bounded(values):
    x, y = torch.tensor(values).T
    forth, back = float(ccc(x, y)), float(ccc(y, x))
    assert forth == pytest.approx(back, abs=1e-6)
    assert abs(forth) <= 1 + 1e-6


def test_a_small_variance_far_from_zero_survives_the_raw_sums():
    x = 0.9 + 1e-4 * torch.linspace(-1, 1, 1000, dtype=torch.float64)
    y = x + 5e-5
    assert float(ccc(x, y)) == pytest.approx(reference_ccc(x.numpy(), y.numpy()), abs=1e-7)


def test_frames_under_the_mask_are_never_read():
    prediction, target, mask = series()
    accumulator, spoilt = CccAccumulator(), CccAccumulator()
    accumulator.update(prediction[mask], target[mask], torch.ones(int(mask.sum()), dtype=torch.bool))
    bad = torch.where(mask[:, None], prediction, torch.nan), torch.where(mask[:, None], target, torch.inf)
    spoilt.update(*bad, mask)
    torch.testing.assert_close(spoilt.compute(), accumulator.compute())
    assert spoilt.num_frames == int(mask.sum())


@given(st.lists(st.integers(0, 60), max_size=6), st.randoms(use_true_random=False))
def test_any_split_in_any_order_merges_to_the_whole(cuts, random):
    prediction, target, mask = series()
    whole = CccAccumulator()
    whole.update(prediction, target, mask)
    bounds = [0, *sorted(cuts), 60]
    parts = []
    for start, stop in itertools.pairwise(bounds):
        part = CccAccumulator()
        part.update(prediction[start:stop], target[start:stop], mask[start:stop])
        parts.append(part)
    random.shuffle(parts)
    merged = CccAccumulator()
    for part in parts:
        merged.merge(part)
    torch.testing.assert_close(merged.compute(), whole.compute(), rtol=0, atol=1e-12)
    summed = CccAccumulator.from_state(torch.stack([part.state() for part in parts]).sum(0))  # what all-reduce does
    torch.testing.assert_close(summed.compute(), whole.compute(), rtol=0, atol=1e-12)


def test_the_pooled_ccc_is_not_the_mean_over_batches():
    prediction, target, mask = series()
    pooled = CccAccumulator()
    halves = []
    for part in (slice(0, 30), slice(30, 60)):
        pooled.update(prediction[part], target[part], mask[part])
        halves.append(ccc_from_moments(batch_moments(prediction[part], target[part], mask[part])))
    assert not torch.allclose(pooled.compute(), torch.stack(halves).mean(0), atol=1e-4)
    torch.testing.assert_close(pooled.compute()[1].float(), ccc(prediction[:, 1], target[:, 1], mask))


def test_a_state_of_the_wrong_size_is_refused():
    with pytest.raises(ValueError, match="6 numbers per dimension, got 13"):
        CccAccumulator.from_state(torch.zeros(13))


def test_from_state_does_not_share_memory():
    accumulator = CccAccumulator()
    accumulator.update(*series())
    state = accumulator.state()
    copy = CccAccumulator.from_state(state)
    state.zero_()
    torch.testing.assert_close(copy.compute(), accumulator.compute())


def test_region_scores_by_hand():
    grid = RegionGrid.explicit([(-0.5, 0), (0.5, 0), (0, 1)], ["left", "right", "top"])
    target = torch.tensor([[-0.5, 0.0], [-0.4, 0.1], [0.6, 0.0], [0.5, 0.5]])
    prediction = target + torch.tensor([[0.1, 0.3], [-0.2, 0.2], [0.0, 0.4], [9.0, 9.0]])
    left, right, top = region_scores(prediction, target, torch.tensor([True, True, True, False]), grid)
    assert (left.name, left.support, right.support, top.support) == ("left", 2, 1, 0)
    assert left.share == pytest.approx(2 / 3)
    assert left.mae == pytest.approx((0.1 + 0.3 + 0.2 + 0.2) / 4)
    assert left.rmse == pytest.approx(math.sqrt((0.01 + 0.09 + 0.04 + 0.04) / 4))
    assert right.rmse == pytest.approx(math.sqrt(0.16 / 2))
    assert math.isnan(top.mae)


def test_region_scores_ignore_nan_under_the_mask():
    prediction, target, mask = series()
    bad = torch.where(mask[:, None], target, torch.nan)
    scores = region_scores(prediction, bad, mask, RegionGrid.square(3))
    assert sum(score.support for score in scores) == int(mask.sum())
    assert sum(score.share for score in scores) == pytest.approx(1)


def tracks(num_tracks: int = 8) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    return [series(10 + 7 * k, seed=k) for k in range(num_tracks)]


def test_bootstrap_estimates_the_pooled_score():
    data = tracks()
    pooled = CccAccumulator()
    for prediction, target, mask in data:
        pooled.update(prediction, target, mask)
    valence, arousal = pooled.compute().tolist()
    scores = bootstrap_ccc(track_moments(data), num_resamples=200)
    assert scores.valence.estimate == pytest.approx(valence)
    assert scores.p.estimate == pytest.approx((valence + arousal) / 2)
    for interval in (scores.valence, scores.arousal, scores.p):
        assert interval.low < interval.estimate < interval.high


def test_bootstrap_equals_a_loop_over_concatenated_tracks():
    data = tracks(5)
    picks = torch.randint(5, (50, 5), generator=torch.Generator().manual_seed(3))
    reference = []
    for row in picks.tolist():
        prediction = torch.cat([data[k][0][data[k][2]] for k in row]).double().numpy()
        target = torch.cat([data[k][1][data[k][2]] for k in row]).double().numpy()
        reference.append(np.mean([reference_ccc(prediction[:, d], target[:, d]) for d in (0, 1)]))
    interval = bootstrap_ccc(track_moments(data), num_resamples=50, seed=3, confidence=0.8).p
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(reference, [0.1, 0.9])))


def test_bootstrap_draws_tracks_not_frames():
    """Doubling every frame of every track changes nothing; it would narrow an interval over frames."""
    data = tracks()
    doubled = [tuple(torch.cat([part, part]) for part in track) for track in data]
    once, twice = bootstrap_ccc(track_moments(data), seed=1).p, bootstrap_ccc(track_moments(doubled), seed=1).p
    assert (once.low, once.high) == pytest.approx((twice.low, twice.high))


def test_bootstrap_of_one_track_has_no_width_and_of_none_is_nan():
    alone = bootstrap_ccc(track_moments(tracks(1))).p
    assert alone.low == alone.high == pytest.approx(alone.estimate)
    assert math.isnan(bootstrap_ccc(track_moments([])).p.low)


def test_bootstrap_leaves_out_resamples_without_a_frame():
    prediction, target, mask = series()
    silent = (prediction, target, torch.zeros_like(mask))
    interval = bootstrap_ccc(track_moments([(prediction, target, mask), silent]), num_resamples=100).p
    assert interval.low == pytest.approx(interval.estimate)


def test_bootstrap_refuses_an_impossible_confidence():
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_ccc(track_moments(tracks(2)), confidence=95)
