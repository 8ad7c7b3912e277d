"""Durations and the time that a study has taken."""

from __future__ import annotations

import pytest

from affectgrid.search.space.budget import busy_s, seconds


@pytest.mark.parametrize(
    ("written", "meant_s"),
    [
        *((90, 5400), ("90", 5400), ("2h", 7200), ("90min", 5400), ("90m", 5400), ("1h 30min", 5400)),
        *(("1.5d", 129_600), ("45s", 45), (" 1h5s ", 3605), (0.5, 30)),
    ],
)
def test_durations(written: float | str, meant_s: float):
    assert seconds(written) == meant_s


@pytest.mark.parametrize("written", ["2 hours", "h", "", "-1h", "1h-", 0, -3, "0s", "1x"])
def test_what_is_no_duration_is_refused(written: float | str):
    with pytest.raises(ValueError, match=r"write 2h|more than 0"):
        seconds(written)


def test_trials_side_by_side_count_once_and_gaps_not_at_all():
    spans = [
        ("2026-01-01T10:00:00+00:00", 60.0),
        ("2026-01-01T10:00:30+00:00", 60.0),  # until 10:01:30
        ("2026-01-01T10:00:40+00:00", 10.0),  # within
        ("2026-01-01T12:00:00+01:00", 5.0),  # an hour later, said in another zone
    ]
    assert busy_s(spans) == busy_s(reversed(spans)) == 95
    assert busy_s([]) == 0
