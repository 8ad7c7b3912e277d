"""Pareto fronts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectgrid.search.space.objective import Goal, pareto_front

P, SIZE, TIME = Goal(maximize="val/p_best"), Goal(minimize="parameters"), Goal(minimize="latency_ms")


def test_a_front_worked_by_hand():
    values = [(0.5, 100), (0.6, 100), (0.7, 200), (0.6, 300), (0.4, 50), (0.6, 100)]
    # 0 loses to 1 at the same size, 3 to 2 in both; 1 and 5 are equal, and both stay.
    assert pareto_front(values, [P, SIZE]) == [2, 1, 5, 4]
    assert pareto_front([], [P, SIZE]) == []


def test_one_goal_leaves_the_best():
    assert pareto_front([(0.1,), (0.3,), (0.2,)], [P]) == [1]
    assert pareto_front([(3.0,), (1.0,)], [SIZE]) == [1]


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=12))
def test_nothing_on_the_front_is_beaten_and_everything_else_is(values: list[tuple[int, int, int]]):
    kept = set(pareto_front(values, [P, SIZE, TIME]))

    def beats(a: tuple[int, int, int], b: tuple[int, int, int]) -> bool:
        return a[0] >= b[0] and a[1] <= b[1] and a[2] <= b[2] and (a[0] > b[0] or a[1] < b[1] or a[2] < b[2])

    for position, row in enumerate(values):
        assert (position not in kept) == any(beats(other, row) for other in values)


@pytest.mark.parametrize("goal", [{}, {"maximize": "val/p_best", "minimize": "parameters"}])
def test_a_goal_has_one_direction(goal: dict[str, str]):
    with pytest.raises(ValueError, match="either maximize or minimize"):
        Goal.model_validate(goal)
