"""What a study may learn from an older one: prior trials that are compatible with its space, for the sampler alone."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from pydantic import ValidationError

from affectgrid.errors import ConfigError, Problem, nearest
from affectgrid.search.space.compatibility import LEARNING
from affectgrid.search.space.schema import SearchSpace, Values, setting_names
from affectgrid.search.study.records import TrialRecord
from affectgrid.search.study.sampling import distribution, encoded
from affectgrid.settings import get, unflatten
from affectgrid.training.config import TrainConfig

WARM_START = "warm_start"  # user attribute of a prior trial: the study and the number that it comes from


@dataclasses.dataclass(frozen=True)
class PriorTrials:
    """What one older study has for the sampler of a new one.

    Args:
        study: its name.
        trials: those whose values the new space can have, as Optuna's FrozenTrial.
        incompatible: why the others were left out -> how many.
        differs: settings that were fixed to something else there, and the data where they were others.
    """

    study: str
    trials: Sequence[Any]
    incompatible: Mapping[str, int]
    differs: Sequence[str]


def find_study(name_or_path: str, studies: Path) -> Path:
    """The folder of a study: a path, or the name of one under `studies`. Raises ConfigError (WARM-FIND)."""
    for folder in (Path(name_or_path).expanduser(), studies / name_or_path):
        if (folder / "space.json").exists():
            return folder.resolve()
    known = [path.parent.name for path in studies.glob("*/space.json")]
    hint = nearest(name_or_path, known) if known else "no study is there yet"
    raise ConfigError(
        Problem(
            "WARM-FIND",
            where=str(studies),
            found=f"no study {name_or_path!r}",
            expected="the name or folder of one",
            hint=hint,
        )
    )


def read_prior_trials(folder: Path, space: SearchSpace, *, data: str) -> PriorTrials:
    """The complete trials of the study in `folder`, each with its values in the terms of `space`, if it can have them.

    A setting that was fixed there and is searched here counts with the value that it had. Raises ConfigError
    (WARM-FIT) for a sampler that learns nothing.
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
    try:
        identity = json.loads((folder / "space.json").read_text(encoding="utf-8"))
        paths = sorted((folder / "trials").glob("*/trial.json"))
        records = [TrialRecord.model_validate_json(path.read_text(encoding="utf-8")) for path in paths]
    except (OSError, ValueError) as error:
        found = str(error).splitlines()[0]
        raise ConfigError(
            Problem("WARM-READ", where=str(folder), found=found, expected="a study's folder", hint="name another study")
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
                trials.append(_prior_trial(record, values, space, folder.name))
    return PriorTrials(folder.name, trials, dict(incompatible), _differences(identity, constants, space, data))


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
    """Settings and data that were others there: the sampler may still learn, and its user should know."""
    try:
        there, here = TrainConfig.model_validate(unflatten(constants)), space.resolve({}, seed=0)
    except ValidationError:  # a constant of then is none of today's settings; its trials are incompatible and say so
        return []
    fixed = [name for name in setting_names() if name not in space.space]
    others = [name for name in fixed if get(there, name) != get(here, name)]
    return [*others, *(["the data"] if identity.get("data") != data else [])]
