"""Warm start: prior trials from an older study that are compatible with a space, for the sampler alone."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from pydantic import ValidationError

from affectgrid.errors import ConfigError, Problem, nearest
from affectgrid.search.space.compatibility import LEARNING
from affectgrid.search.space.schema import SearchSpace, Values, setting_names
from affectgrid.search.study.assignment import IDENTITY
from affectgrid.search.study.records import TrialRecord, read_records
from affectgrid.search.study.sampling import distribution, encoded
from affectgrid.settings import get, unflatten
from affectgrid.storage import Storage, WorkingCopy, is_uri
from affectgrid.training.config import TrainConfig

WARM_START = "warm_start"  # user attribute of a prior trial: the study and the number that it comes from


@dataclasses.dataclass(frozen=True)
class PriorTrials:
    """The trials of an older study for the sampler of a new one.

    Args:
        study: its name.
        trials: those whose values the new space can have, as Optuna's FrozenTrial.
        incompatible: why the others were left out -> how many.
        differs: settings that had other fixed values there, and the data if they were different.
    """

    study: str
    trials: Sequence[Any]
    incompatible: Mapping[str, int]
    differs: Sequence[str]


def find_study(name_or_place: str | None, studies: Storage) -> Storage | None:
    """The place of a study: a folder, a URI, or the name of one under `studies`. Raises ConfigError (WARM-FIND)."""
    if name_or_place is None:
        return None
    given = Storage(name_or_place)
    for place in (given,) if is_uri(name_or_place) else (given, studies / name_or_place):
        if place.exists(IDENTITY):
            return place
    known = [name for name in studies.list_folders() if (studies / name).exists(IDENTITY)]
    hint = nearest(name_or_place, known) if known else "no study is there yet"
    raise ConfigError(
        Problem(
            "WARM-FIND",
            where=studies.address,
            found=f"no study {name_or_place!r}",
            expected="the name or folder of one",
            hint=hint,
        )
    )


def read_prior_trials(study: Storage | Path, space: SearchSpace, *, data: str) -> PriorTrials:
    """The complete trials of the study at a place, each with its values in the terms of `space`, if it can have them.

    A setting that was fixed there and is searched here has its fixed value. Raises ConfigError (WARM-FIT) for a sampler
    that does not learn.
    """
    if space.arms or space.sampler not in LEARNING:
        found = "arms" if space.arms else f"sampler {space.sampler}"
        expected = f"one that learns: {', '.join(LEARNING)}"
        raise ConfigError(
            Problem(
                "WARM-FIT",
                where=space.name,
                found=f"warm start with {found}",
                expected=expected,
                hint="drop --warm-start",
            )
        )
    place = Storage(study)
    name = place.split()[1]
    try:
        identity = place.read_json(IDENTITY)
        records = read_records(WorkingCopy(place))
    except (OSError, ValueError) as error:
        found, hint = str(error).splitlines()[0], "name another study"
        raise ConfigError(
            Problem("WARM-READ", where=place.address, found=found, expected="a study's place", hint=hint)
        ) from error
    trials: list[Any] = []
    incompatible: collections.Counter[str] = collections.Counter()
    constants = identity.get("constants", {})
    for record in records:
        if record.state == "complete":
            values = _compatible_values(record, constants, space)
            if isinstance(values, str):
                incompatible[values] += 1
            else:
                trials.append(_prior_trial(record, values, space, name))
    return PriorTrials(name, trials, dict(incompatible), _differences(identity, constants, space, data))


def _compatible_values(record: TrialRecord, constants: Mapping[str, Any], space: SearchSpace) -> Values | str:
    """The values of the active parameters, or why the trial is incompatible."""
    if any(record.value(goal.metric) is None for goal in space.objective):
        return "an objective was not measured there"
    try:
        config = TrainConfig.model_validate(unflatten({**constants, **record.params}))
    except ValidationError as error:
        return f"{'.'.join(map(str, error.errors()[0]['loc']))} is no longer allowed"
    values: Values = {}
    for name, dimension in space.active_order():
        if dimension.condition is not None and not dimension.condition.holds({**space.constants, **values}):
            continue
        value = get(config, name)
        if not dimension.holds(value):
            return f"{name} is outside the space"
        values[name] = value
    return values


def _prior_trial(record: TrialRecord, values: Values, space: SearchSpace, study: str) -> Any:
    return optuna.trial.create_trial(  # checks every value against its distribution
        values=[record.value(goal.metric) for goal in space.objective],
        params=encoded(values),
        distributions={name: distribution(space.space[name]) for name in values},
        user_attrs={WARM_START: {"study": study, "number": record.number}},
    )


def _differences(identity: Mapping[str, Any], constants: Mapping[str, Any], space: SearchSpace, data: str) -> list[str]:
    """Settings and data that were different there: the sampler may still learn, and the user should know."""
    try:
        there, here = TrainConfig.model_validate(unflatten(constants)), space.resolve({}, seed=0)
    except ValidationError:  # an old constant is no longer a setting; its trials are incompatible, and reported as such
        return []
    fixed = [name for name in setting_names() if name not in space.space]
    others = [name for name in fixed if get(there, name) != get(here, name)]
    return [*others, *(["the data"] if identity.get("data") != data else [])]
