"""Which searched parameters mattered, judged against what shuffled scores would show."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from affectgrid.analysis.importance import MIN_TRIALS, Importance, ParameterImportance

_MIN_TOP = 5
_SHARE_TOP = 0.1  # "good" means the best tenth, or the best five where that is more
_NUM_SHUFFLES = 200
_CHANCE_QUANTILE = 0.95


def importance(trials: Sequence[FrozenTrial], scores: Mapping[int, float]) -> Importance:
    """PED-ANOVA's importance of every parameter for reaching the top of the scores.

    Conditional parameters are weighed by Optuna's condPED-ANOVA: within the trials in which they are active, and by how
    often good trials have them active. Parameters with one value are left out.

    Args:
        trials: of Optuna's study; those without a score are passed over.
        scores: number of a complete trial -> its P; more is better.
    """
    counted = [trial for trial in trials if trial.number in scores and trial.state == TrialState.COMPLETE]
    if len(counted) < MIN_TRIALS:
        return Importance(num_trials=len(counted))
    values = np.array([scores[trial.number] for trial in counted])
    names = _varied(counted)
    num_top = max(_MIN_TOP, round(_SHARE_TOP * len(counted)))
    study, draw = _study(counted), np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of every target: that less of it is better
        found = _weigh(study, values, num_top, names)
        shuffled = [_weigh(study, draw.permutation(values), num_top, names) for _ in range(_NUM_SHUFFLES)]
    chance = _chance({name: np.array([one[name] for one in shuffled]) for name in names})
    total = sum(found.values()) or 1.0
    weighed = [
        ParameterImportance(
            name=name,
            share=found[name] / total,
            value=found[name],
            chance=chance[name],
            num_trials=sum(name in trial.params for trial in counted),
        )
        for name in names
    ]
    ordered = tuple(sorted(weighed, key=lambda one: -one.share))
    return Importance(parameters=ordered, num_trials=len(counted), num_top=num_top)


def _chance(shuffled: Mapping[str, np.ndarray[tuple[int], np.dtype[np.float64]]]) -> dict[str, float]:
    """What 19 of 20 shuffles stay below in every parameter at once, so that of useless ones hardly any stands out.

    The largest over the parameters counts (Westfall and Young's max T), each in units of its own spread: a parameter
    with many values reaches a high divergence by chance.
    """
    means = {name: float(values.mean()) for name, values in shuffled.items()}
    spreads = {name: float(values.std()) for name, values in shuffled.items()}
    standard = [(values - means[name]) / (spreads[name] or 1.0) for name, values in shuffled.items()]
    limit = float(np.quantile(np.max(standard, axis=0), _CHANCE_QUANTILE)) if standard else 0.0
    return {name: means[name] + limit * spreads[name] for name in shuffled}


def _study(trials: Sequence[FrozenTrial]) -> Study:
    """The trials by themselves, numbered anew; made once, for Optuna copies each that it is given."""
    study = optuna.create_study(direction="minimize")
    study.add_trials([create_trial(params=t.params, distributions=t.distributions, value=0.0) for t in trials])
    return study


def _weigh(study: Study, scores: np.ndarray, num_top: int, names: list[str]) -> dict[str, float]:
    """By the scores of the study's trials, in its order."""
    evaluator = PedAnovaImportanceEvaluator(target_quantile=num_top / len(scores))
    return dict(evaluator.evaluate(study, params=names, target=lambda trial: -float(scores[trial.number])))


def _varied(trials: Sequence[FrozenTrial]) -> list[str]:
    """Parameters that were tried with more than one value."""
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    return [name for name in names if len({str(trial.params[name]) for trial in trials if name in trial.params}) > 1]
