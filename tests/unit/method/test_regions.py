import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affectgrid.errors import ConfigError
from affectgrid.metrics import ccc
from affectgrid.regions import RegionGrid, expected_centre, log_soft_labels, nearest_region, soft_labels

GRIDS = [
    RegionGrid.square(2),
    RegionGrid.square(3),
    RegionGrid.square(5),
    RegionGrid.rectangle(3, 2),
    RegionGrid.polar(8),
    RegionGrid.explicit([(-1, -1), (0.2, 0.1), (1, 0.3)], ["a", "b", "c"]),
]
points = st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=8)


def test_square_grid_runs_from_high_arousal_and_negative_valence():
    grid = RegionGrid.square(3)
    t = 2 / 3
    expected = [(-t, t), (0, t), (t, t), (-t, 0), (0, 0), (t, 0), (-t, -t), (0, -t), (t, -t)]
    torch.testing.assert_close(grid.centres_tensor(), torch.tensor(expected))
    assert grid.names[0] == "high-negative"
    assert grid.names[4] == "medium-neutral"
    assert grid.names[8] == "low-positive"


def test_square_extent_moves_the_outermost_centre():
    assert RegionGrid.square(3, extent=0.5).centres[2] == (0.5, 0.5)
    assert RegionGrid.square(2, extent=1).centres[0] == (-1, 1)
    assert RegionGrid.square(5).centres[4] == pytest.approx((0.8, 0.8))


def test_rectangle_has_columns_of_valence_and_rows_of_arousal():
    grid = RegionGrid.rectangle(3, 2)
    t = 2 / 3
    torch.testing.assert_close(
        grid.centres_tensor(), torch.tensor([(-t, 0.5), (0, 0.5), (t, 0.5), (-t, -0.5), (0, -0.5), (t, -0.5)])
    )


def test_one_row_lies_at_zero_arousal():
    assert RegionGrid.rectangle(2, 1).centres == ((-0.5, 0.0), (0.5, 0.0))


def test_polar_grid_turns_counter_clockwise_from_positive_valence():
    expected = [(0, 0), (0.5, 0), (0, 0.5), (-0.5, 0), (0, -0.5)]
    torch.testing.assert_close(RegionGrid.polar(4, radius=0.5).centres_tensor(), torch.tensor(expected))


@pytest.mark.parametrize(
    ("grid", "spacing"),
    [
        (RegionGrid.square(3), 2 / 3),
        (RegionGrid.square(2), 1.0),
        (RegionGrid.square(5), 0.4),
        (RegionGrid.polar(4, radius=0.6), 0.6),
        # a chord of 45 degrees, 2 r sin(22.5 deg), is nearer than the centre; the centre's own gap is r
        (RegionGrid.polar(8, radius=0.6), (8 * 1.2 * math.sin(math.pi / 8) + 0.6) / 9),
        (RegionGrid.explicit([(0, 0), (0.3, 0.4), (0.3, 0.9)], "abc"), 0.5),
    ],
)
def test_spacing_is_the_mean_distance_to_the_nearest_neighbour(grid, spacing):
    assert grid.spacing == pytest.approx((spacing, spacing))


@pytest.mark.parametrize(
    ("grid", "spacing"),
    [
        (RegionGrid.rectangle(5, 2), (0.4, 1.0)),
        (RegionGrid.rectangle(3, 2), (2 / 3, 1.0)),
        (RegionGrid.rectangle(4, 1), (0.5, 0.5)),
        (RegionGrid.explicit([(v, a) for v in (-0.9, 0, 0.1) for a in (-0.2, 0.2)], "abcdef"), (0.5, 0.4)),
    ],
)
def test_rows_and_columns_have_a_spacing_of_their_own(grid, spacing):
    assert grid.spacing == pytest.approx(spacing)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: RegionGrid.square(1), "1 region"),
        (lambda: RegionGrid.square(0), "0 regions on an axis"),
        (lambda: RegionGrid.square(3, extent=1.5), "centre"),
        (lambda: RegionGrid.square(3, extent=0), "more than once"),
        (lambda: RegionGrid.explicit([(0, 0), (math.nan, 0)], "ab"), "nan"),
        (lambda: RegionGrid.explicit([(0, 0), (1, 0)], ["a"]), "1 names for 2 centres"),
        (lambda: RegionGrid.explicit([(0, 0), (1, 0)], ["a", "a"]), "'a' more than once"),
        (lambda: RegionGrid.explicit([(0, 0), (1, 0, 0)], ["a", "b"]), "two numbers"),
    ],
)
def test_a_broken_grid_is_refused_by_name(build, said):
    with pytest.raises(ConfigError, match="CFG-GRID") as caught:
        build()
    assert said in str(caught.value)


def test_grids_of_equal_content_are_one_cache_key():
    assert len({RegionGrid.square(3), RegionGrid.square(3), RegionGrid.square(2)}) == 2


def test_soft_labels_between_two_centres_by_hand():
    # d^2 = .25 and 1, so d^2 / (2 sigma^2) = .5 and 2: q = 1 / (1 + exp(-1.5)) and its rest
    grid = RegionGrid.explicit([(0, 0), (0.5, 1)], "ab")
    q = soft_labels(torch.tensor([0.5, 0.0]), grid, sigma=0.5)
    torch.testing.assert_close(q, torch.tensor([0.8175745, 0.1824255]))


@given(points, st.sampled_from(GRIDS), st.floats(1e-12, 1e6))
def test_soft_labels_are_a_distribution_that_favours_the_nearest(values, grid, sigma):
    va = torch.tensor(values)
    q = soft_labels(va, grid, sigma=sigma)
    assert q.shape == (len(values), grid.num_regions)
    assert bool((q >= 0).all())
    torch.testing.assert_close(q.sum(-1), torch.ones(len(values)))
    nearest = nearest_region(va, grid)
    torch.testing.assert_close(q.gather(1, nearest[:, None])[:, 0], q.amax(-1))


@given(points, st.sampled_from(GRIDS), st.floats(0.05, 5))
def test_soft_labels_equal_a_reference_loop(values, grid, sigma):
    expected = []
    for v, a in values:
        kernel = [math.exp(-((v - cv) ** 2 + (a - ca) ** 2) / (2 * sigma**2)) for cv, ca in grid.centres]
        # a point far from every centre makes the reference kernels underflow; log space is there for that
        expected.append([k / sum(kernel) for k in kernel] if max(kernel) > 1e-290 else None)
    rows = [k for k, row in enumerate(expected) if row is not None]
    q = soft_labels(torch.tensor(values, dtype=torch.float64), grid, sigma=sigma)
    torch.testing.assert_close(q[rows], torch.tensor([expected[k] for k in rows], dtype=torch.float64))


@pytest.mark.parametrize("sigma", [1e-3, 1e-20, 1e-45, 1e-300])
def test_a_tiny_sigma_gives_the_one_hot_of_the_nearest_centre(sigma):
    grid = RegionGrid.square(3)
    va = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = torch.nn.functional.one_hot(nearest_region(va, grid), 9).float()
    assert torch.equal(soft_labels(va, grid, sigma=sigma), expected)


def test_a_tie_is_shared_and_nearest_takes_the_first():
    grid = RegionGrid.square(2)
    va = torch.zeros(2)
    torch.testing.assert_close(soft_labels(va, grid, sigma=1e-30), torch.full((4,), 0.25))
    assert nearest_region(va, grid) == 0


def test_an_infinite_sigma_is_uniform():
    assert torch.equal(soft_labels(torch.tensor([0.9, -0.3]), RegionGrid.square(2), sigma=math.inf), torch.ones(4) / 4)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan])
def test_sigma_must_be_positive(sigma):
    with pytest.raises(ValueError, match="sigma must be > 0"):
        soft_labels(torch.zeros(1, 2), RegionGrid.square(3), sigma=sigma)


def test_log_soft_labels_keep_what_soft_labels_round_to_zero():
    grid = RegionGrid.explicit([(0, 0), (1, 0)], "ab")
    # exp(-1 / (2 * .05^2)) = exp(-200) is no float32, its logarithm is
    assert log_soft_labels(torch.zeros(2), grid, sigma=0.05)[1] == pytest.approx(-200)


def test_turning_the_plane_turns_the_labels():
    grid, va = RegionGrid.polar(4), torch.tensor([[0.3, 0.1], [-0.2, 0.7]])
    turned = torch.stack([-va[:, 1], va[:, 0]], 1)  # by 90 degrees
    q, q_turned = soft_labels(va, grid, sigma=0.4), soft_labels(turned, grid, sigma=0.4)
    torch.testing.assert_close(q_turned, q[:, [0, 4, 1, 2, 3]])


def test_a_tensor_of_centres_serves_as_a_grid():
    grid, va = RegionGrid.square(3), torch.tensor([[0.1, 0.9]])
    assert torch.equal(soft_labels(va, grid, sigma=0.3), soft_labels(va, grid.centres_tensor(), sigma=0.3))


def test_float64_keeps_its_precision():
    # 2/3 is no float32: with a centre rounded to one, the shares at sigma .05 are off by 1e-6
    grid, va = RegionGrid.square(3), torch.tensor([1 / 3, 2 / 3], dtype=torch.float64)
    expected = torch.tensor([0, 0.5, 0.5, 0, 0, 0, 0, 0, 0], dtype=torch.float64)  # midway between two centres
    torch.testing.assert_close(soft_labels(va, grid, sigma=0.05), expected, rtol=0, atol=1e-12)


def test_expected_centre_by_hand():
    grid = RegionGrid.explicit([(-1, 0), (1, 0.5)], "ab")
    torch.testing.assert_close(expected_centre(torch.tensor([0.25, 0.75]), grid), torch.tensor([0.5, 0.375]))


@pytest.mark.parametrize(
    ("sigma", "expected"), [(0.1, 0.9505), (0.2, 0.9697), (0.3, 0.9750), (0.5, 0.9088), (1.0, 0.4934)]
)
def test_the_expected_centre_of_uniform_labels_is_best_near_sigma_03(sigma, expected):
    """A quadrature of what a perfect prompt head can score; the design's table cuts the numbers to three digits."""
    grid = RegionGrid.square(3)
    side = (torch.arange(400) + 0.5) / 200 - 1  # midpoints: the uniform distribution without sampling noise
    va = torch.cartesian_prod(side, side)
    read_out = expected_centre(soft_labels(va, grid, sigma=sigma), grid)
    for axis in (0, 1):
        assert float(ccc(read_out[:, axis], va[:, axis])) == pytest.approx(expected, abs=6e-5)
