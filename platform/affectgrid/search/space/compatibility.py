"""Which samplers, pruners, objectives and budgets go together, and which parts of a space a sampler cannot model."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from affectgrid.errors import Problem
from affectgrid.search.space.schema import SearchSpace

LEARNING = ("tpe", "gp", "cmaes")  # samplers that learn from earlier trials


def incompatibilities(space: SearchSpace, where: str) -> Iterator[Problem]:
    """A problem for every pair of settings that cannot work together."""
    several = len(space.objective) > 1
    if several and space.pruner != "none":
        found = f"pruner {space.pruner} with {len(space.objective)} objectives"
        expected = "pruner none: a trial that is weak in P may be the smallest or the fastest, and stay on the front"
        yield Problem(
            "SPACE-FIT",
            where=where,
            found=found,
            expected=expected,
            hint="drop pruner, or name val/p_best alone as objective",
        )
    if several and space.sampler == "cmaes":
        found = f"sampler cmaes with {len(space.objective)} objectives"
        yield Problem(
            "SPACE-FIT", where=where, found=found, expected="one objective", hint="take tpe or gp, which know several"
        )
    if space.arms:
        yield from _arms_incompatibilities(space, where)
    elif space.sampler == "grid":
        yield from _grid_incompatibilities(space, where)
    elif space.sampler == "gp" and not shared(space):
        hint = "take tpe, which models conditional parameters"
        yield Problem(
            "SPACE-FIT",
            where=where,
            found="sampler gp, and every parameter has a when",
            expected="one that is always there",
            hint=hint,
        )
    elif space.sampler == "cmaes":
        yield from _cmaes_incompatibilities(space, where)


def shared(space: SearchSpace) -> list[str]:
    """Parameters that every trial has."""
    return [name for name, dimension in space.space.items() if dimension.when is None]


def not_modelled(space: SearchSpace) -> list[str]:
    """Parameters that the sampler cannot model, and so draws at random."""
    if space.arms or space.sampler not in {"gp", "cmaes"}:
        return []
    alone = [name for name, dimension in space.space.items() if dimension.when is not None]
    if space.sampler == "cmaes":
        alone += [name for name in shared(space) if space.space[name].choice is not None]
    return alone


def _arms_incompatibilities(space: SearchSpace, where: str) -> Iterator[Problem]:
    if space.sampler in {"gp", "cmaes", "grid"}:
        yield Problem(
            "SPACE-FIT",
            where=where,
            found=f"arms with sampler {space.sampler}",
            expected="no sampler",
            hint="arms are run as they are",
        )
    if len(space.objective) > 1:
        yield Problem(
            "SPACE-FIT",
            where=where,
            found="arms with several objectives",
            expected="one",
            hint="search a choice instead of arms",
        )


def _grid_incompatibilities(space: SearchSpace, where: str) -> Iterator[Problem]:
    try:
        number = len(space.combinations())
    except ValueError as error:
        yield Problem(
            "SPACE-FIT", where=where, found=str(error), expected="a grid that can be walked", hint="or take sampler tpe"
        )
        return
    if space.trials is not None and space.trials != number:
        found = f"trials {space.trials} with sampler grid, which has {number} combinations"
        yield Problem(
            "SPACE-FIT", where=where, found=found, expected="all of them", hint="drop trials, or take sampler random"
        )


def _cmaes_incompatibilities(space: SearchSpace, where: str) -> Iterator[Problem]:
    numbers = [name for name, dimension in space.space.items() if len(set(dimension.bounds or ())) == 2]
    conditional = [name for name in numbers if space.space[name].when is not None]
    if conditional:
        found = f"sampler cmaes with {', '.join(conditional)}, which not every trial has"
        yield Problem(
            "SPACE-FIT", where=where, found=found, expected="numbers without when", hint="drop the when, or take tpe"
        )
    elif len(numbers) < 2:
        found = f"sampler cmaes with {len(numbers)} numbers to search"
        yield Problem(
            "SPACE-FIT",
            where=where,
            found=found,
            expected="at least 2 that are float or int",
            hint="take tpe, which knows choices too",
        )
    try:
        importlib.import_module("cmaes")
    except ImportError:
        found = "sampler cmaes, whose package is not installed"
        yield Problem(
            "SPACE-PACKAGE",
            where=where,
            found=found,
            expected="the package cmaes",
            hint="pip install 'affectgrid[cmaes]'",
        )
