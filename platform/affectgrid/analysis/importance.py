"""The importance of searched parameters, as it is kept. `analysis.ped_anova`, which loads Optuna, finds it."""

from __future__ import annotations

from pydantic import ConfigDict

from affectgrid.settings import Settings

MIN_TRIALS = 20  # five in the top quarter, which PED-ANOVA's authors ask for


class ParameterImportance(Settings):
    """One parameter.

    Args:
        name: dotted.
        share: of the importance of all parameters together.
        value: Pearson divergence of where good trials lie from where all lie.
        chance: in 19 of 20 shuffles of the scores no parameter exceeds its own; a value under it tells nothing.
        num_trials: complete trials in which the parameter was active.
    """

    name: str
    share: float
    value: float
    chance: float
    num_trials: int

    @property
    def telling(self) -> bool:
        """Whether it exceeds what chance shows."""
        return self.value > self.chance


class Importance(Settings):
    """All searched parameters, the most important first; none where there are fewer than `MIN_TRIALS` trials.

    Args:
        num_trials: complete ones, which were weighed.
        num_top: of them that count as good.
    """

    model_config = ConfigDict(extra="ignore")  # summaries used to hold a sentence beside the numbers

    parameters: tuple[ParameterImportance, ...] = ()
    num_trials: int
    num_top: int = 0
