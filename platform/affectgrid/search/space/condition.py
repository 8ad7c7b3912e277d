"""When a parameter of a search space is active: one comparison with one other parameter."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal

import yaml

from affectgrid.settings import parse_yaml

_PATTERN = re.compile(r"\s*(?P<parent>[\w.]+)\s*(?P<operator>==|!=|\bin\b)\s*(?P<value>\S.*?)\s*")


@dataclasses.dataclass(frozen=True)
class Condition:
    """``parent == value``, ``parent != value`` or ``parent in [value, ...]``."""

    parent: str
    operator: Literal["==", "!=", "in"]
    value: Any

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read the text of a ``when:``; values are YAML. Raises ValueError with the accepted forms."""
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not 'name == value', 'name != value' or 'name in [value, ...]'")
        try:
            value = parse_yaml(match["value"])
        except yaml.YAMLError as error:
            raise ValueError(f"{match['value']!r} is not a YAML value") from error
        if (match["operator"] == "in") != isinstance(value, list):
            raise ValueError(f"{text!r}: 'in' takes a list, '==' and '!=' take one value")
        return cls(match["parent"], match["operator"], value)  # type: ignore[arg-type]  # the pattern has only these

    def __str__(self) -> str:
        value = ", ".join(map(str, self.value)) if isinstance(self.value, list) else self.value
        return f"{self.parent} {self.operator} {f'[{value}]' if self.operator == 'in' else value}"

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it holds for `values`; a parent that is itself inactive makes it false."""
        if self.parent not in values:
            return False
        value = values[self.parent]
        if self.operator == "in":
            return value in self.value
        return bool((value == self.value) == (self.operator == "=="))
