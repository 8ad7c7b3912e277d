"""Reading search-space files; all mistakes are reported at once, each with its field and a hint."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from affectgrid.errors import ConfigError, Problem, nearest
from affectgrid.search.space.compatibility import incompatibilities
from affectgrid.search.space.condition import Condition
from affectgrid.search.space.dimension import Dimension
from affectgrid.search.space.objective import Goal
from affectgrid.search.space.schema import Arm, SearchSpace, Values, setting_names
from affectgrid.settings import Settings, parse_yaml

__all__ = ["SearchSpace", "load_space", "parse_space"]
_SECTIONS: dict[str, type[Settings]] = {"arms": Arm, "space": Dimension, "objective": Goal}


def load_space(path: Path, **overrides: object) -> SearchSpace:
    """Read a search-space file. Raises ConfigError with every problem that it has.

    Args:
        path: the file.
        overrides: values that replace the file's own; None leaves what the file says.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            Problem("SPACE-READ", where=str(path), found=str(error), expected="a YAML file", hint="check the path")
        ) from error
    except yaml.YAMLError as error:
        hint = "correct the YAML; tags that build objects are refused"
        raise ConfigError(
            Problem("SPACE-YAML", where=str(path), found=" ".join(str(error).split()), expected="plain YAML", hint=hint)
        ) from error
    if not isinstance(content, dict):
        found = f"a {type(content).__name__}"
        raise ConfigError(
            Problem(
                "SPACE-YAML",
                where=str(path),
                found=found,
                expected="keys and values",
                hint="see search_spaces/smoke.yaml",
            )
        )
    given = {name: value for name, value in overrides.items() if value is not None}
    return parse_space(content | given, where=str(path))


def parse_space(content: Mapping[str, Any], *, where: str = "search space") -> SearchSpace:
    """Check the content of a search-space file. Raises ConfigError with every problem that it has."""
    try:
        space = SearchSpace.model_validate(content)
    except ValidationError as error:
        raise ConfigError(*_schema_problems(error, where)) from error
    problems = [*_name_problems(space, where)]
    if not problems:  # values can only be tried under names that exist
        problems = [*_condition_problems(space, where), *_value_problems(space, where)]
    if not problems:  # only a sound space can be walked
        problems = [*incompatibilities(space, where)]
    if problems:
        raise ConfigError(*problems)
    return space


def _schema_problems(error: ValidationError, where: str) -> Iterator[Problem]:
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"]) or "the whole"
        if item["type"] == "extra_forbidden":
            model = _SECTIONS.get(str(item["loc"][0]), SearchSpace)
            names = [field.alias or name for name, field in model.model_fields.items()]
            found, expected = f"unknown key {place!r}", "a key of a search space"
            yield Problem(
                "SPACE-KEY", where=where, found=found, expected=expected, hint=nearest(str(item["loc"][-1]), names)
            )
        else:
            found = f"{place} is {item['input']!r}" if item["type"] != "missing" else f"{place} is missing"
            message = item["msg"].removeprefix("Value error, ")
            yield Problem("SPACE-VALUE", where=where, found=found, expected=message, hint=_hint(item))


def _hint(item: Any) -> str:
    """The nearest of the values that are allowed; where any value of a kind is, an example."""
    if item["type"] == "literal_error" and isinstance(item["input"], str):
        return nearest(item["input"], re.findall("'([^']+)'", item["ctx"]["expected"]))
    return "see search_spaces/smoke.yaml for a whole one"


def _name_problems(space: SearchSpace, where: str) -> Iterator[Problem]:
    known = setting_names()
    places: list[tuple[str, Iterable[str]]] = [("constants", space.constants), ("space", space.space)]
    places += [(f"points.{number}", point) for number, point in enumerate(space.points)]
    places += [(f"arms.{arm.name}", arm.set) for arm in space.arms]
    for place, names in places:
        for name in names:
            if name not in known:
                hint = "list the seeds under seeds:" if name == "seed" else nearest(name, known)
                yield Problem(
                    "SPACE-NAME",
                    where=f"{where}:{place}",
                    found=f"{name!r}",
                    expected="a setting of a training run",
                    hint=hint,
                )
    for name in sorted(set(space.constants) & set(space.space)):
        yield Problem(
            "SPACE-TWICE",
            where=where,
            found=f"{name} is fixed and searched",
            expected="one of them",
            hint="drop it from one place",
        )
    for number, point in enumerate(space.points):
        for name in sorted(set(point) - set(space.space)):
            if name in known:
                hint = "search it, or move it to constants"
                yield Problem(
                    "SPACE-POINT",
                    where=f"{where}:points.{number}",
                    found=f"{name} is not searched",
                    expected="only what is",
                    hint=hint,
                )


def _condition_problems(space: SearchSpace, where: str) -> Iterator[Problem]:
    known = {*space.space, *space.constants}
    for name, dimension in space.space.items():
        condition = dimension.condition
        if condition is not None and condition.parent not in known:
            found = f"when names {condition.parent!r}, which is neither searched nor constant"
            yield Problem(
                "SPACE-WHEN",
                where=f"{where}:space.{name}",
                found=found,
                expected="another parameter",
                hint=nearest(condition.parent, known),
            )
        elif condition is not None:
            yield from _condition_value_problems(space, name, condition, where)
    try:
        list(space.active_order())
    except ValueError as error:
        yield Problem(
            "SPACE-WHEN", where=where, found=str(error), expected="no circle", hint="drop the when of one of them"
        )


def _condition_value_problems(space: SearchSpace, name: str, condition: Condition, where: str) -> Iterator[Problem]:
    """A value that the parent can never have is a mistake: the parameter would always, or never, be active."""
    place, parent = f"{where}:space.{name}", space.space.get(condition.parent)
    values = condition.value if condition.operator == "in" else [condition.value]
    for value in values:
        try:
            space.resolve({condition.parent: value}, seed=0)
        except ValidationError as error:
            message = f"{value!r} is not a value of {condition.parent}: {error.errors()[0]['msg']}"
            yield Problem(
                "SPACE-WHEN",
                where=place,
                found=message,
                expected="one that the setting can have",
                hint=_hint(error.errors()[0]),
            )
    if parent is not None and condition.operator != "!=" and not any(parent.holds(value) for value in values):
        found = f"{condition} is never true: the space does not hold the value"
        known = [str(value) for value in parent.choice or parent.bounds or ()]
        yield Problem(
            "SPACE-WHEN",
            where=place,
            found=found,
            expected="a value that is searched",
            hint=nearest(str(values[0]), known),
        )


def _value_problems(space: SearchSpace, where: str) -> Iterator[Problem]:
    trials: list[tuple[str, Values]] = [("constants", {})]
    for name, dimension in space.space.items():
        trials += [(f"space.{name}", {name: value}) for value in dimension.extremes()]
    trials += [(f"points.{number}", dict(point)) for number, point in enumerate(space.points)]
    trials += [(f"arms.{arm.name}", dict(arm.set)) for arm in space.arms]
    for place, values in trials:
        try:
            space.resolve(values, seed=0)
        except ValidationError as error:
            for item in error.errors():
                name = ".".join(str(part) for part in item["loc"]) or ", ".join(values)
                found = f"{name} = {item['input']!r}" if item["loc"] else f"{values}"
                yield Problem(
                    "SPACE-BOUND",
                    where=f"{where}:{place}",
                    found=found,
                    expected=item["msg"],
                    hint="stay inside the setting's bounds",
                )
            if place == "constants":
                return  # every other trial would repeat it
    for number, point in enumerate(space.points):
        for name, value in point.items():
            if not space.space[name].holds(value):
                found = f"{name} = {value!r} is outside the space"
                yield Problem(
                    "SPACE-POINT",
                    where=f"{where}:points.{number}",
                    found=found,
                    expected="a value that can be sampled",
                    hint="move it inside",
                )
