"""Windows of a split as batches, against loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affectgrid.data.splits.resident import Split, StreamRows
from affectgrid.training.batches import Resident, seed_of, shuffled_batches, take
from affectgrid.windows import WindowIndex
from support.planted import with_streams


def numbered_split(lengths: list[int]) -> Split:
    """Every feature and label of a row holds the row's number, so that a wrong row is seen at once."""
    num_rows = sum(lengths)
    number = np.arange(num_rows)
    return Split(
        name="train",
        track_ids=tuple(f"track-{i}" for i in range(len(lengths))),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        frame_index=np.concatenate([np.arange(1, n + 1) for n in lengths]).astype(np.int32),
        time_s=number / 30.0,
        streams={
            "visual": StreamRows(np.repeat(number[:, None], 3, 1).astype(np.float16), number % 5 != 0),
            "audio": StreamRows(np.repeat(number[:, None], 2, 1).astype(np.float16), number % 7 != 0),
        },
        va=np.repeat(number[:, None], 2, 1).astype(np.float32),
        labelled=number % 3 != 0,
        encoders={"visual": "v", "audio": "a"},
    )


def test_a_batch_holds_the_rows_of_its_windows_and_pads_the_short_one():
    split = numbered_split([7, 3])
    index = WindowIndex.over(split.offsets.tolist(), 4, 4)  # rows 0..3, 3..6 and 7..9
    batch = Resident(split).gather(index, torch.tensor([1, 2]))
    assert batch.streams["visual"][0][..., 0].tolist() == [[3, 4, 5, 6], [7, 8, 9, 9]]
    assert batch.frame_mask.tolist() == [[True] * 4, [True, True, True, False]]
    assert batch.labelled.tolist() == [[False, True, True, False], [True, True, False, False]]
    assert batch.streams["visual"][1].tolist() == [[True, True, False, True], [True, True, True, False]]
    assert batch.streams["audio"][1].tolist() == [[True, True, True, True], [False, True, True, False]]
    assert batch.va[1, :3, 1].tolist() == [7, 8, 9]


def test_a_batch_is_as_long_as_its_longest_window():
    split = numbered_split([7, 3])
    index = WindowIndex.over(split.offsets.tolist(), 5, 5)
    assert Resident(split).gather(index, torch.tensor([2])).va.shape == (1, 3, 2)


def test_a_window_that_does_not_count_loses_its_labels_and_nothing_else():
    split = numbered_split([8])
    index = WindowIndex.over(split.offsets.tolist(), 4, 4)
    batch = Resident(split).gather(index, torch.tensor([0, 0]), torch.tensor([True, False]))
    assert batch.labelled.any(1).tolist() == [True, False]
    assert torch.equal(batch.streams["visual"][0][0], batch.streams["visual"][0][1])
    assert batch.frame_mask.all()


def test_windows_without_a_label_are_left_out():
    split = numbered_split([4, 4, 4])
    split.labelled[:] = [False] * 4 + [False, False, False, True] + [False] * 4
    resident = Resident(split)
    kept = resident.with_labels(WindowIndex.over(split.offsets.tolist(), 2, 2))
    assert list(zip(kept.start.tolist(), kept.stop.tolist(), kept.track.tolist(), strict=True)) == [(6, 8, 1)]


def test_take_keeps_the_order_that_it_is_given():
    index = WindowIndex.over([0, 9], 3, 3)
    assert take(index, torch.tensor([2, 0])).start.tolist() == [6, 0]


def test_the_arrays_are_the_split_s_own_memory_also_where_that_is_read_only(recwarn: pytest.WarningsRecorder):
    split = numbered_split([4])
    split.streams["visual"].feature.setflags(write=False)
    assert Resident(split).streams["visual"][0].data_ptr() == split.streams["visual"].feature.ctypes.data
    assert not recwarn.list


@given(
    num_windows=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    num_workers=st.integers(1, 5),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 9),
)
def test_the_shares_of_all_workers_are_the_batches_of_one(num_windows, batch_size, num_workers, seed, epoch):
    order = {"batch_size": batch_size, "seed": seed, "epoch": epoch}
    alone = [numbers.tolist() for numbers, _ in shuffled_batches(num_windows, **order)]
    assert sorted(itertools.chain(*alone)) == list(range(num_windows))
    shares = [
        list(shuffled_batches(num_windows, rank=rank, num_workers=num_workers, **order)) for rank in range(num_workers)
    ]
    for step, batch in enumerate(alone):
        parts = [share[step] for share in shares]
        assert len({len(numbers) for numbers, _ in parts}) == 1  # else a collective would wait for ever
        counted = sorted(int(n) for numbers, counts in parts for n in numbers[counts])
        assert counted == sorted(batch)


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(**where):
        return torch.cat([numbers for numbers, _ in shuffled_batches(50, batch_size=8, **where)]).tolist()

    orders = [order(seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(o) for o in orders}) == 4
    assert order(seed=1, epoch=1) == orders[3]


def test_a_seed_is_the_same_on_every_machine():
    assert seed_of("epoch", 0, 1, 2) == 6502243757841831714
    assert 0 <= seed_of("x") < 2**63


def test_statistics_are_over_present_rows_alone() -> None:
    split = numbered_split([7, 30])
    present = split.streams["visual"].present.copy()
    present[:5] = False
    visual = split.streams["visual"].feature.copy()
    visual[:5] = 1000
    mean, deviation = Resident(with_streams(split, visual=visual, visual_present=present)).statistics()["visual"]
    rows = visual[present].astype(np.float64)
    np.testing.assert_allclose(mean.numpy(), rows.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(deviation.numpy(), rows.std(0), rtol=1e-4)
