"""A sampler that also learns from the trials of other studies, which Optuna lacks."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState


class WarmStartSampler(optuna.samplers.BaseSampler):  # type: ignore[misc]  # Optuna is not typed here
    """Gives `inner` a view of the study in which prior trials, those of other studies, come before its own.

    The study itself does not contain them: its numbers, its count and its best trial are its own.
    """

    def __init__(self, inner: optuna.samplers.BaseSampler, prior_trials: Sequence[FrozenTrial]) -> None:
        self.inner, self.prior_trials = inner, list(prior_trials)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        """The search space common to the prior trials and the study."""
        return dict(self.inner.infer_relative_search_space(_View(study, self.prior_trials), trial))

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        """As `inner` does."""
        return dict(self.inner.sample_relative(_View(study, self.prior_trials), trial, search_space))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """As `inner` does."""
        return self.inner.sample_independent(_View(study, self.prior_trials), trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """As `inner` does."""
        self.inner.before_trial(study, trial)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """As `inner` does."""
        self.inner.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """As `inner` does."""
        self.inner.reseed_rng()


class _View(optuna.Study):  # type: ignore[misc]
    """The same study with more trials to read. Writes go to the study."""

    def __init__(self, study: optuna.Study, prior_trials: list[FrozenTrial]) -> None:
        self.__dict__.update(study.__dict__)
        self._prior_trials = prior_trials

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        prior_trials = [trial for trial in self._prior_trials if states is None or trial.state in states]
        return [*prior_trials, *super()._get_trials(deepcopy, states, use_cache)]
