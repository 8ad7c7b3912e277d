"""Exhaustive search: every combination of a space, in the order in which they are queued."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from affectgrid.search.space.dimension import Dimension

MAX_COMBINATIONS = 10_000
Values = dict[str, Any]


def combinations(
    dimensions: Sequence[tuple[str, Dimension]], constants: Mapping[str, Any], points: Sequence[Values]
) -> list[Values]:
    """Every combination of the active parameters: first those that the points name, then the rest.

    A parameter whose condition does not hold is absent, so a combination is there once. Raises ValueError for a
    dimension without steps, and where there are more than `MAX_COMBINATIONS`.

    Args:
        dimensions: each after the one that its condition names.
        constants: fixed settings, which conditions may name.
        points: combinations that come first.
    """
    found = list(itertools.islice(_walk({}, list(dimensions), constants), MAX_COMBINATIONS + 1))
    if len(found) > MAX_COMBINATIONS:
        raise ValueError(f"the grid has more than {MAX_COMBINATIONS} combinations; narrow it, or let tpe search it")
    first: list[Values] = []
    for point in points:
        first += [values for values in found if _agrees(values, point) and values not in first][:1]
    return [*first, *(values for values in found if values not in first)]


def _walk(chosen: Values, left: list[tuple[str, Dimension]], constants: Mapping[str, Any]) -> Iterator[Values]:
    if not left:
        yield chosen
        return
    (name, dimension), *others = left
    if dimension.condition is not None and not dimension.condition.holds({**constants, **chosen}):
        yield from _walk(chosen, others, constants)
        return
    values = dimension.steps()
    if values is None:
        raise ValueError(f"{name} is continuous, and a grid needs steps; give it a step or a choice of values")
    for value in values:
        yield from _walk({**chosen, name: value}, others, constants)


def _agrees(values: Values, point: Values) -> bool:
    return all(values.get(name, value) == value for name, value in point.items())
