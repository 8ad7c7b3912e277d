"""Labels before training: smoothed in time, and how often their regions are drawn."""

from __future__ import annotations

import pytest
import torch

from affectgrid.errors import TrainingError
from affectgrid.regions import RegionGrid
from affectgrid.training.batches import shuffled_batches
from affectgrid.training.labels import require_labels, smooth_over_time, window_chances
from affectgrid.windows import WindowIndex
from support.planted import planted_split

GRID = RegionGrid.explicit([(-0.5, 0), (0.5, 0)], ["left", "right"])


def test_smoothed_labels_by_hand():
    va = torch.tensor([[0.0, 1.0], [0.3, 1.0], [9.0, 9.0], [0.6, 1.0], [-1.0, 0.0], [1.0, 0.0]])
    labelled = torch.tensor([True, True, False, True, True, True])
    found = smooth_over_time(va, labelled, torch.tensor([0, 4, 6]), 1)
    # row 2 counts for nobody and stays; rows 3 and 4 are neighbours, but of two tracks
    expected = torch.tensor([[0.15, 1.0], [0.15, 1.0], [9.0, 9.0], [0.6, 1.0], [0.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(found, expected)
    wide = smooth_over_time(va, labelled, torch.tensor([0, 4, 6]), 2)
    torch.testing.assert_close(wide[:2, 0], torch.tensor([0.15, 0.3]))


def test_chances_by_hand():
    # regions: left x 6, right x 2 of 8 labelled frames: rarity 8/6 and 8/2
    valence = torch.tensor([-1.0, -1, -1, -1, 1, 1, -1, -1, 1, 1])
    va = torch.stack([valence, torch.zeros(10)], 1)
    labelled = torch.tensor([True] * 8 + [False] * 2)
    windows = WindowIndex.over([0, 10], 2, 2)
    chances = window_chances(va, labelled, windows, GRID, exponent=1.0)
    torch.testing.assert_close(chances.tolist(), [4 / 3, 4 / 3, 4.0, 4 / 3, 0.0])
    tempered = window_chances(va, labelled, windows, GRID, exponent=0.5)
    torch.testing.assert_close(tempered.tolist(), [(4 / 3) ** 0.5, (4 / 3) ** 0.5, 2.0, (4 / 3) ** 0.5, 0.0])
    mixed = window_chances(va, labelled, WindowIndex.over([0, 10], 5, 5), GRID, exponent=1.0)
    torch.testing.assert_close(mixed.tolist(), [(4 * 4 / 3 + 4) / 5, (4 + 2 * 4 / 3) / 3])
    assert window_chances(va, labelled, windows, GRID, exponent=0.0).tolist() == [1, 1, 1, 1, 0]


def test_full_balance_draws_every_region_equally_often():
    valence = torch.cat([torch.full((180,), -1.0), torch.full((20,), 1.0)])
    va = torch.stack([valence, torch.zeros(200)], 1)
    labelled = torch.ones(200, dtype=torch.bool)
    windows = WindowIndex.over([0, 200], 2, 2)
    chances = window_chances(va, labelled, windows, GRID, exponent=1.0)
    drawn = torch.cat(
        [n for epoch in range(40) for n, _ in shuffled_batches(100, batch_size=8, seed=0, epoch=epoch, chances=chances)]
    )
    share = (va[windows.start[drawn], 0] > 0).double().mean()
    assert float(share) == pytest.approx(0.5, abs=0.03)  # 4000 draws: a deviation of 0.008


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_weighted_draws_are_the_same_for_any_number_of_workers(num_workers):
    chances = torch.arange(1.0, 24.0)
    order = {"batch_size": 5, "seed": 3, "epoch": 2, "chances": chances}
    alone = [numbers.tolist() for numbers, _ in shuffled_batches(23, **order)]
    assert sum(map(len, alone)) == 23  # an epoch is as long as ever
    assert [n.tolist() for n, _ in shuffled_batches(23, **order)] == alone
    assert [n.tolist() for n, _ in shuffled_batches(23, **{**order, "epoch": 3})] != alone
    shares = [list(shuffled_batches(23, rank=r, num_workers=num_workers, **order)) for r in range(num_workers)]
    for step, batch in enumerate(alone):
        counted = [int(n) for share in shares for n in share[step][0][share[step][1]]]
        assert sorted(counted) == sorted(batch)


def test_a_split_without_labels_is_named():
    split = planted_split("train", [11, 5])
    split.labelled[:] = False
    with pytest.raises(TrainingError, match="TRAIN-LABELS split train: no labelled frame in 2"):
        require_labels(split)
