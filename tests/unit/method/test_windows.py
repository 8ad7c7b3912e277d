import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affectgrid.errors import ConfigError
from affectgrid.windows import WindowIndex, cut, delay, merge_windows, smooth


@st.composite
def cuttings(draw):
    length = draw(st.integers(1, 30))
    return draw(st.integers(0, 120)), length, draw(st.integers(1, length))


def test_cut_by_hand():
    assert cut(10, 4, 3) == [(0, 4), (3, 7), (6, 10)]
    assert cut(11, 4, 3) == [(0, 4), (3, 7), (6, 10), (7, 11)]
    assert cut(4, 4, 3) == [(0, 4)]
    assert cut(3, 4, 3) == [(0, 3)]
    assert cut(0, 4, 3) == []


@given(cuttings())
def test_cut_covers_every_frame_and_ends_at_the_last(cutting):
    num_frames, length, stride = cutting
    spans = cut(num_frames, length, stride)
    assert {frame for span in spans for frame in range(*span)} == set(range(num_frames))
    assert len(set(spans)) == len(spans)
    assert all(stop - start == min(length, num_frames) for start, stop in spans)
    if spans:
        assert spans[-1][1] == num_frames


@pytest.mark.parametrize(("length", "stride"), [(4, 5), (4, 0), (0, 0), (4, -1)])
def test_a_stride_that_skips_frames_is_refused(length, stride):
    with pytest.raises(ConfigError, match="CFG-WINDOW"):
        cut(10, length, stride)


def test_window_index_stays_inside_tracks():
    index = WindowIndex.over([0, 5, 5, 8, 18], length=4, stride=4)
    assert index.spans.tolist() == [[0, 4], [1, 5], [5, 8], [8, 12], [12, 16], [14, 18]]
    assert index.track.tolist() == [0, 0, 2, 3, 3, 3]
    assert len(index) == 6


def test_window_rows_pad_with_the_last_row():
    rows, mask = WindowIndex.over([0, 5, 8], length=4, stride=4).rows(torch.tensor([2, 0]))
    assert rows.tolist() == [[5, 6, 7, 7], [0, 1, 2, 3]]
    assert mask.tolist() == [[True, True, True, False], [True] * 4]


def test_window_index_of_nothing():
    assert len(WindowIndex.over([0], length=4, stride=4)) == 0


def test_merge_by_hand():
    # weights 1 2 1 on frames 0..2 and on frames 2..4: frame 2 is the plain mean of 3 and 9
    predictions = torch.tensor([[[1.0], [2.0], [3.0]], [[9.0], [5.0], [6.0]]])
    assert merge_windows(predictions, [(0, 3), (2, 5)], 5)[:, 0].tolist() == [1, 2, 6, 5, 6]
    # frames 1..3: weights of the second window 1 2 1, of the first 1 2 1 on 0..2: frame 1 is (2*2 + 9) / 3
    merged = merge_windows(predictions, [(0, 3), (1, 4)], 4)[:, 0]
    torch.testing.assert_close(merged, torch.tensor([1, 13 / 3, (3 + 2 * 5) / 3, 6]))


@given(cuttings(), st.integers(0, 10))
def test_merge_equals_a_loop(cutting, seed):
    num_frames, length, stride = cutting
    spans = cut(num_frames, length, stride)
    predictions = torch.randn(len(spans), length, 2, generator=torch.Generator().manual_seed(seed))
    expected = []
    for frame in range(num_frames):
        weighted, total = torch.zeros(2), 0
        for window, (start, stop) in enumerate(spans):
            if start <= frame < stop:
                weight = min(frame - start + 1, stop - frame)
                weighted, total = weighted + weight * predictions[window, frame - start], total + weight
        expected.append(weighted / total)
    merged = merge_windows(predictions, spans, num_frames)
    torch.testing.assert_close(merged, torch.stack(expected) if expected else torch.zeros(0, 2))


@given(cuttings())
def test_windows_that_agree_merge_to_what_they_agree_on(cutting):
    num_frames, length, stride = cutting
    truth = torch.arange(num_frames, dtype=torch.float32)[:, None].sin()
    index = WindowIndex.over([0, num_frames], length, stride)
    rows, mask = index.rows(torch.arange(len(index)))
    predictions = torch.where(mask[..., None], truth[rows], torch.nan)  # padding must not be read
    torch.testing.assert_close(merge_windows(predictions, index.spans, num_frames), truth)


def test_a_frame_without_a_window_is_an_error():
    with pytest.raises(ValueError, match="2 of 6 frames"):
        merge_windows(torch.zeros(2, 2, 1), [(0, 2), (4, 6)], 6)


def test_a_span_longer_than_its_window_is_an_error():
    with pytest.raises(ValueError, match="span of 3 frames"):
        merge_windows(torch.zeros(1, 2, 1), [(0, 3)], 3)


def test_smooth_by_hand():
    values = torch.tensor([[0.0], [3.0], [6.0], [0.0]])
    assert smooth(values, 1)[:, 0].tolist() == [1.5, 3, 3, 3]
    masked = smooth(values, 1, torch.tensor([True, False, True, True]))
    assert masked[:, 0].tolist() == [0, 3, 3, 3]


@given(st.integers(1, 40), st.integers(0, 50), st.integers(0, 100))
def test_smooth_equals_a_loop(num_frames, half_width, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(num_frames, 2, generator=generator)
    mask = torch.rand(num_frames, generator=generator) < 0.6
    expected = values.clone()
    for frame in range(num_frames if half_width else 0):
        reach = slice(max(frame - half_width, 0), frame + half_width + 1)
        if mask[reach].any():
            expected[frame] = values[reach][mask[reach]].mean(0)
    spoilt = torch.where(mask[:, None], values, torch.nan)
    smoothed = smooth(spoilt, half_width, mask)
    untouched = torch.isnan(smoothed)  # a frame out of reach of any valid one keeps its own value, here NaN
    torch.testing.assert_close(torch.where(untouched, values, smoothed), expected)
    if half_width:
        assert not bool(untouched[mask].any())


def test_smooth_leaves_a_constant_and_a_straight_line_inside():
    assert torch.equal(smooth(torch.full((500, 2), 0.1), 50), torch.full((500, 2), 0.1))
    line = torch.linspace(-1, 1, 101)[:, None]
    torch.testing.assert_close(smooth(line, 5)[5:-5], line[5:-5])


def test_smooth_runs_over_an_empty_track_and_refuses_a_negative_width():
    assert smooth(torch.zeros(0, 2), 3).shape == (0, 2)
    with pytest.raises(ValueError, match="half_width"):
        smooth(torch.zeros(3, 2), -1)


@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
@pytest.mark.parametrize("causal", [False, True])
def test_other_kernels_are_weighted_means_of_the_valid_frames(kernel, causal):
    generator = torch.Generator().manual_seed(1)
    values, valid = torch.randn(30, 2, generator=generator), torch.rand(30, generator=generator) > 0.3
    found = smooth(torch.where(valid[:, None], values, torch.nan), 5, valid, causal=causal, kernel=kernel)
    for frame in range(30):
        near = [n for n in range(max(frame - 5, 0), min(frame + (0 if causal else 5), 29) + 1) if valid[n]]
        steps = torch.tensor([abs(n - frame) / 2.5 for n in near])
        weights = torch.exp(-0.5 * steps**2 if kernel == "gaussian" else -steps)
        if near:
            expected = (weights[:, None] * values[near]).sum(0) / weights.sum()
            torch.testing.assert_close(found[frame], expected)
    assert torch.equal(smooth(values, 0, valid, kernel=kernel), values)


def test_a_delay_holds_the_first_value():
    values = torch.arange(8.0).reshape(4, 2)
    assert delay(values, 2)[:, 0].tolist() == [0, 0, 0, 2]
    assert torch.equal(delay(values, 0), values)
    assert delay(values, 9)[:, 0].tolist() == [0, 0, 0, 0]
