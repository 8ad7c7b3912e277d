"""Exhaustive search: every combination of a space in a fixed order, so that a trial's number says which one it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affectgrid.search.schema import SearchSpace, Values

MOST_COMBINATIONS = 10_000


def combinations(space: SearchSpace) -> list[Values]:
    """Every combination of the active parameters: first those that the points name, then the rest.

    A parameter whose condition does not hold is absent, so a combination is there once. Raises ValueError for a
    dimension without steps, and where there are more than `MOST_COMBINATIONS`.
    """
    found = list(itertools.islice(_walk(space, {}, list(space.active_order())), MOST_COMBINATIONS + 1))
    if len(found) > MOST_COMBINATIONS:
        raise ValueError(f"the grid has more than {MOST_COMBINATIONS} combinations; narrow it, or let tpe search it")
    first: list[Values] = []
    for point in space.first_points():
        first += [values for values in found if _agrees(values, point) and values not in first][:1]
    return [*first, *(values for values in found if values not in first)]


def _walk(space: SearchSpace, chosen: Values, left: list[tuple[str, Any]]) -> Iterator[Values]:
    if not left:
        yield chosen
        return
    (name, dimension), *others = left
    if dimension.condition is not None and not dimension.condition.holds({**space.constants, **chosen}):
        yield from _walk(space, chosen, others)
        return
    values = dimension.steps()
    if values is None:
        raise ValueError(f"{name} is continuous, and a grid needs steps; give it a step or a choice of values")
    for value in values:
        yield from _walk(space, {**chosen, name: value}, others)


def _agrees(values: Values, point: Values) -> bool:
    return all(values.get(name, value) == value for name, value in point.items())
