"""Between a search space and Optuna: distributions, samplers and proposals."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import optuna

from affectgrid.search.space.dimension import Dimension
from affectgrid.search.space.schema import SearchSpace, Values
from affectgrid.search.study.assignment import ARM, SEED
from affectgrid.search.study.samplers import WarmStartSampler

_SEED_STRIDE = 1_000_003  # a prime, so that samplers of different seeds do not coincide after some resumes


class Suggests(Protocol):
    """The part of an Optuna trial that is used here."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


def proposer(space: SearchSpace) -> Callable[[Suggests], Values]:
    """Optuna's define-by-run function of a space. It can be pickled."""
    return functools.partial(propose, space=space)


def propose(trial: Suggests, *, space: SearchSpace) -> Values:
    """Ask for the value of every active parameter; with arms, for an arm and a seed."""
    if space.arms:
        arm = trial.suggest_categorical(ARM, [arm.name for arm in space.arms])
        return {ARM: arm, SEED: trial.suggest_categorical(SEED, list(space.seeds))}
    values: Values = {}
    for name, dimension in space.active_order():
        if dimension.condition is None or dimension.condition.holds({**space.constants, **values}):
            values[name] = _suggest(trial, name, dimension)
    return values


def first_proposals(space: SearchSpace) -> list[Values]:
    """Proposals that are queued before the sampler is asked, in Optuna's terms.

    The points; or the whole study: every arm with every seed, or every combination of a grid. Optuna's own
    grid sampler may give the same combination to trials side by side, and knows no conditional parameters.
    """
    if space.arms:
        return [{ARM: arm.name, SEED: seed} for seed in space.seeds for arm in space.arms]
    if space.sampler == "grid":
        return [encoded(values) for values in space.combinations()]
    return [encoded(point) for point in space.first_points()]


def make_sampler(
    space: SearchSpace, *, num_asked: int, prior_trials: Sequence[Any] = ()
) -> optuna.samplers.BaseSampler:
    """The sampler. One that resumes after `num_asked` proposals must not repeat its first random ones.

    Args:
        space: what is searched.
        num_asked: proposals that were made before.
        prior_trials: finished trials of other studies, as Optuna's FrozenTrial, that it may learn from.
    """
    seed = (space.sampler_seed * _SEED_STRIDE + num_asked) % 2**32
    if space.arms or space.sampler in {"random", "grid"}:  # arms and grids are queued whole
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if space.sampler == "cmaes":
            return _cmaes(seed, prior_trials)
        # With 12 trials, ten random ones would leave no search.
        startup = 10 if space.num_trials is None else max(4, min(10, space.num_trials // 4))
        sampler: optuna.samplers.BaseSampler
        if space.sampler == "gp":
            sampler = optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        else:
            sampler = optuna.samplers.TPESampler(
                seed=seed,
                n_startup_trials=startup,
                multivariate=True,
                group=any(dimension.when for dimension in space.space.values()),  # conditional parameters
            )
    return WarmStartSampler(sampler, prior_trials) if prior_trials else sampler


def encoded(values: Mapping[str, Any]) -> Values:
    """Plain values in Optuna's terms."""
    return {name: _encode(value) for name, value in values.items()}


def distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    """What Optuna calls a dimension."""
    if dimension.float_ is not None:
        return optuna.distributions.FloatDistribution(*dimension.float_, step=dimension.step, log=dimension.log)
    if dimension.int_ is not None:
        return optuna.distributions.IntDistribution(*dimension.int_, step=int(dimension.step or 1), log=dimension.log)
    return optuna.distributions.CategoricalDistribution([_encode(value) for value in dimension.choice or ()])


def proposal_distributions(space: SearchSpace, proposal: Values) -> dict[str, optuna.distributions.BaseDistribution]:
    """The distribution of every name of a proposal."""
    if space.arms:
        names = [arm.name for arm in space.arms]
        choices = {ARM: names, SEED: list(space.seeds)}
        return {name: optuna.distributions.CategoricalDistribution(choices[name]) for name in proposal}
    return {name: distribution(space.space[name]) for name in proposal}


def _cmaes(seed: int, prior_trials: Sequence[Any]) -> optuna.samplers.BaseSampler:
    numbers = [
        optuna.trial.create_trial(
            value=trial.value,
            params={name: trial.params[name] for name in kept},
            distributions={name: trial.distributions[name] for name in kept},
        )
        for trial in prior_trials
        # CMA-ES starts from trials that have its own parameters and no others.
        for kept in [[name for name, kind in trial.distributions.items() if _is_range(kind)]]
    ]
    return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False, source_trials=numbers or None)


def _is_range(kind: optuna.distributions.BaseDistribution) -> bool:
    return not isinstance(kind, optuna.distributions.CategoricalDistribution) and not kind.single()


def _suggest(trial: Suggests, name: str, dimension: Dimension) -> Any:
    if dimension.float_ is not None:
        return trial.suggest_float(name, *dimension.float_, step=dimension.step, log=dimension.log)
    if dimension.int_ is not None:
        return trial.suggest_int(name, *dimension.int_, step=int(dimension.step or 1), log=dimension.log)
    assert dimension.choice is not None
    encoded = [_encode(value) for value in dimension.choice]
    return dimension.choice[encoded.index(trial.suggest_categorical(name, encoded))]


def _encode(value: Any) -> Any:
    """Optuna's categories are scalars; a list travels as JSON."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value
