"""One searched parameter: its kind, its bounds and the values that it can take."""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic import Field, JsonValue, model_validator

from affectgrid.search.space.condition import Condition
from affectgrid.settings import Settings


class Dimension(Settings):
    """One searched parameter: exactly one of ``float``, ``int`` or ``choice``."""

    float_: tuple[float, float] | None = Field(None, alias="float", description="lowest and highest value")
    int_: tuple[int, int] | None = Field(None, alias="int", description="lowest and highest value, both included")
    choice: tuple[JsonValue, ...] | None = Field(None, min_length=1, description="the values")
    log: bool = Field(False, description="sample the logarithm")
    step: float | None = Field(None, gt=0, description="distance of neighbouring values")
    when: str | None = Field(None, description="active only then, e.g. 'prompt.mode != none'")

    @model_validator(mode="after")
    def _check(self) -> Dimension:
        given = [kind for kind in (self.float_, self.int_, self.choice) if kind is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of float, int and choice; {len(given)} are given")
        if self.choice is not None:
            if self.log or self.step is not None:
                raise ValueError("a choice has neither log nor step")
            if len({json.dumps(value) for value in self.choice}) != len(self.choice):
                raise ValueError("a choice names a value twice")
        low, high = self.bounds or (0, 0)
        if low > high:
            raise ValueError(f"low {low:g} is above high {high:g}; swap them")
        if self.log and low <= 0:
            raise ValueError(f"a log scale cannot start at {low:g}; start above 0 or drop log")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other; drop one")
        if self.int_ is not None and self.step is not None and self.step != int(self.step):
            raise ValueError(f"an int takes whole steps, not {self.step:g}")
        if self.step is not None and not _whole((high - low) / self.step):
            reached = low + self.step * math.floor((high - low) / self.step)
            raise ValueError(f"steps of {self.step:g} from {low:g} do not reach {high:g}; end at {reached:g}")
        if self.when is not None:
            Condition.parse(self.when)
        return self

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Lowest and highest value of a number."""
        return self.float_ or self.int_

    @property
    def condition(self) -> Condition | None:
        """`when`, parsed."""
        return Condition.parse(self.when) if self.when is not None else None

    def extremes(self) -> tuple[Any, ...]:
        """Values that together show whether every value of this dimension is accepted."""
        return self.choice if self.choice is not None else (self.bounds or ())

    def holds(self, value: Any) -> bool:
        """Whether `value` can be sampled."""
        if self.choice is not None:
            return value in self.choice
        low, high = self.bounds or (0.0, 0.0)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            return False
        return self._distance is None or _whole((value - low) / self._distance)

    def steps(self) -> tuple[Any, ...] | None:
        """Every value, in order; None for a continuous dimension."""
        if self.choice is not None:
            return self.choice
        low, high = self.bounds or (0.0, 0.0)
        if low == high:
            return (low,)
        if self._distance is None:
            return None
        kind = int if self.int_ is not None else float
        count = round((high - low) / self._distance) + 1
        return tuple(kind(round(low + number * self._distance, 12)) for number in range(count))

    @property
    def _distance(self) -> float | None:
        """Of neighbouring values; None for a continuous dimension."""
        return 1.0 if self.int_ is not None and self.step is None else self.step


def _whole(number: float) -> bool:
    """Whether it is an integer but for rounding: 0.3 / 0.1 is not quite 3."""
    return abs(number - round(number)) < 1e-9
