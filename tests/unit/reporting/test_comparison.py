"""Tables of several models, and of tracks and people."""

from __future__ import annotations

import csv
import math

import pytest

from affectgrid.analysis.bootstrap import Difference
from affectgrid.analysis.evaluation import Compared
from affectgrid.reporting.scores.comparison import comparison_table, group_table, short_names
from affectgrid.training.inference.groups import GroupScore


@pytest.mark.parametrize(
    ("addresses", "names"),
    [
        (["outputs/runs/a/model", "outputs/runs/b/model"], ["a", "b"]),
        (["outputs/studies/fusion/best/model", "runs/full/model"], ["fusion", "full"]),
        (["one/runs/a/model", "two/runs/a/model"], ["one/runs/a", "two/runs/a"]),
        (["s3://bucket/runs/a/model", "runs/b/ensemble.json"], ["a", "b"]),
        (["runs/a/model", "runs/a/model"], ["a", "a"]),
        (["a/model", "b/a/model"], ["a/model", "b/a"]),
        (["all together", "runs/a/model"], ["all together", "a"]),
        (["model"], ["model"]),
    ],
)
def test_models_are_called_by_what_tells_them_apart(addresses: list[str], names: list[str]):
    assert short_names(addresses) == names


def difference(estimate: float, half: float) -> Difference:
    return Difference(
        estimate=estimate,
        low=estimate - half,
        high=estimate + half,
        low_corrected=estimate - 2 * half,
        high_corrected=estimate + 2 * half,
        confidence=0.95,
        corrected_confidence=0.975,
        num_comparisons=2,
        video_sd=half / 2,
        seed_sd=0,
        degrees_of_freedom=11,
        num_videos=12,
        num_seeds=1,
    )


def test_a_difference_is_starred_only_where_it_holds_when_corrected():
    compared = [
        Compared("runs/a/model", 0.5, 0.7, 0.6),
        Compared("runs/b/model", 0.4, 0.6, 0.5, difference(-0.1, 0.04)),
        Compared("runs/c/model", 0.5, 0.9, 0.7, difference(0.1, 0.06)),
    ]
    table = comparison_table(compared)
    assert list(csv.reader(table.csv().splitlines())) == [
        ["model", "CCC-V", "CCC-A", "P", "P - a", "corrected"],
        ["a", "0.500", "0.700", "0.600", "", ""],
        ["b", "0.400", "0.600", "0.500", "-0.100 [-0.140, -0.060]", "[-0.180, -0.020]*"],
        ["c", "0.500", "0.900", "0.700", "+0.100 [+0.040, +0.160]", "[-0.020, +0.220]"],
    ]
    assert "95% interval over 12 raw videos" in table.note
    assert "2 comparisons" in table.note


def test_groups_are_listed_from_the_lowest_score_and_those_without_one_last():
    groups = [GroupScore(name, 1, 9, p, p, p, 0.2) for name, p in (("a", math.nan), ("b", 0.5), ("c", -0.1))]
    table = group_table("t", "track", groups)
    assert [row[0] for row in table.rows] == ["c", "b", "a"]
    assert table.rows[-1] == ("a", "9", "–", "–", "–", "0.200")
    assert group_table("t", "person", groups).headings[1] == "tracks"
