"""Search-space files: what is varied, what is fixed, how often, and by which sampler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import AliasChoices, Field, JsonValue, field_validator, model_validator

from affectgrid.search.space import budget, grid
from affectgrid.search.space.dimension import Dimension
from affectgrid.search.space.objective import BEST_SCORE, SCORE, Goal
from affectgrid.settings import Settings, flatten, get, unflatten
from affectgrid.training.config import TrainConfig

Values = dict[str, Any]  # dotted name of a field of TrainConfig -> value
PROMPT_FILE = "prompt.file"
STREAMS = "model.streams"
_DEFAULT_TRIALS = 20
# May change before a study is resumed: texts, and how long it runs.
_NO_IDENTITY = {"name", "description", "trials", "time_budget"}


class Arm(Settings):
    """One named set of values that is compared with the others."""

    name: str = Field(min_length=1)
    set: dict[str, JsonValue] = Field({}, description="what differs from the constants")


class SearchSpace(Settings):
    """What a study runs: trials that a sampler proposes, or a list of arms, each with several seeds.

    `space.parse_space` and `space.load_space` also check every name and bound against TrainConfig.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64, description="of the study and of its folder")
    description: str = ""
    sampler: Literal["tpe", "gp", "cmaes", "random", "grid"] = Field(
        "tpe",
        description="tpe for most spaces; gp for few parameters and costly trials; cmaes for numbers; grid for all",
    )
    sampler_seed: int = Field(0, ge=0, description="of the sampler")
    pruner: Literal["asha", "median", "none"] = Field("none", description="whether weak trials are stopped early")
    trials: int | None = Field(
        None,
        gt=0,
        description=f"number of trials; without it {_DEFAULT_TRIALS}, or as many as fit into time_budget; arms and a "
        "grid need none",
    )
    time_budget: float | str | None = Field(
        None, description="no trial begins after it: a number of minutes, or text such as 2h, 90min, 1h 30min"
    )
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="each trial's runs; the objective is their mean")
    objective: tuple[Goal, ...] = Field(
        BEST_SCORE,
        min_length=1,
        description="val/p_best, or a list of {maximize: val/p_best} and what is minimized: a Pareto front",
    )
    constants: dict[str, JsonValue] = Field(
        {}, validation_alias=AliasChoices("constants", "base"), description="fixed settings"
    )
    space: dict[str, Dimension] = Field({}, description="searched settings by dotted name")
    points: tuple[dict[str, JsonValue], ...] = Field(
        ({},),
        description="tried first; a parameter that a point leaves out has its default value. The point of all defaults "
        "is put before them where it is missing",
    )
    arms: tuple[Arm, ...] = Field((), description="run each of these with each seed, instead of sampling")

    @field_validator("objective", mode="before")
    @classmethod
    def _read_objective(cls, value: Any) -> Any:
        return ({"maximize": value},) if isinstance(value, str) else value

    @field_validator("time_budget")
    @classmethod
    def _read_time(cls, value: float | str | None) -> float | str | None:
        if value is not None:
            budget.seconds(value)
        return value

    @model_validator(mode="after")
    def _check(self) -> SearchSpace:
        if bool(self.arms) == bool(self.space):
            raise ValueError("give either space or arms")
        if len({arm.name for arm in self.arms}) != len(self.arms):
            raise ValueError("two arms have one name")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("a seed is there twice")
        metrics = [goal.metric for goal in self.objective]
        if SCORE not in metrics or len(set(metrics)) != len(metrics):
            raise ValueError(f"objective names {SCORE} once, and nothing twice; it names {', '.join(metrics)}")
        return self

    @property
    def num_trials(self) -> int | None:
        """How many trials the study has when it is done; None where only the time limits it.

        With arms one for each arm and seed, with a grid one for each combination.
        """
        if self.arms:
            return len(self.arms) * len(self.seeds)
        if self.sampler == "grid":
            return len(self.combinations())
        return self.trials or (None if self.time_budget is not None else _DEFAULT_TRIALS)

    @property
    def time_budget_s(self) -> float | None:
        """`time_budget` in seconds."""
        return None if self.time_budget is None else budget.seconds(self.time_budget)

    def active_order(self) -> Iterator[tuple[str, Dimension]]:
        """The dimensions, each after the one that its ``when`` names. Raises ValueError for a cycle."""
        left = dict(self.space)
        while left:
            ready = [name for name, dim in left.items() if dim.condition is None or dim.condition.parent not in left]
            if not ready:
                raise ValueError(f"the conditions of {', '.join(sorted(left))} form a circle")
            for name in ready:
                yield name, left.pop(name)

    def resolve(self, values: Mapping[str, Any], *, seed: int) -> TrainConfig:
        """The configuration of one run: defaults, then the constants, then `values`. Raises ValidationError."""
        return TrainConfig.model_validate(unflatten({**self.constants, **values, "seed": seed}))

    def first_points(self) -> list[Values]:
        """`points`, with the default of every parameter that they leave out, as long as the space holds it.

        The point of all defaults comes first where no point is equal to it: every search shows what it is worth.
        """
        points = [self._completed(point) for point in self.points]
        default = self._completed({})
        return points if default in points else [default, *points]

    def _completed(self, point: Mapping[str, Any]) -> Values:
        default = self.resolve(point, seed=0)
        values: Values = {}
        for name, dimension in self.active_order():
            value = point.get(name, get(default, name))
            known = {**self.constants, **values}
            if dimension.holds(value) and (dimension.condition is None or dimension.condition.holds(known)):
                values[name] = value
        return values

    def combinations(self) -> list[Values]:
        """Every combination, in the order in which a grid search runs them. Raises ValueError as `grid` does."""
        return grid.combinations(list(self.active_order()), self.constants, self.first_points())

    def prompt_files(self) -> tuple[str, ...]:
        """Every prompt file that a trial may ask for."""
        return tuple(str(file) for file in self.values_of(PROMPT_FILE))

    def values_of(self, name: str) -> tuple[Any, ...]:
        """Every value that a trial may give to a setting whose values are words."""
        return tuple(dict.fromkeys(self._values_of(name)))

    def streams(self) -> tuple[str, ...]:
        """Every stream that a trial may read."""
        return tuple(dict.fromkeys(stream for value in self._values_of(STREAMS) for stream in value))

    def _values_of(self, name: str) -> list[Any]:
        base = get(self.resolve({}, seed=0), name)
        dimension = self.space.get(name)
        values = [arm.set.get(name, base) for arm in self.arms] or [base]
        if dimension is not None:
            values = [*dimension.extremes(), *([base] if dimension.when else [])]
        return values

    def identity(self) -> dict[str, Any]:
        """The part that may not change before a study is resumed. Its name, texts and a larger number of trials may."""
        fields = self.model_dump(mode="json", by_alias=True, exclude=_NO_IDENTITY)
        goals = [{way: metric for way, metric in goal.items() if metric} for goal in fields["objective"]]
        fields["objective"] = SCORE if self.objective == BEST_SCORE else goals
        return {name: value for name, value in fields.items() if value not in ({}, [])}


def setting_names() -> tuple[str, ...]:
    """Every dotted name that a search space may use."""
    return tuple(name for name in flatten(TrainConfig()) if name != "seed")
