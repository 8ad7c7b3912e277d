"""What is told of the searched parameters' importance. `search.ped_anova` finds it."""

from __future__ import annotations

from affectgrid.settings import Settings

MIN_TRIALS = 20  # five in the top quarter, which PED-ANOVA's authors ask for


class ParameterImportance(Settings):
    """One parameter.

    Args:
        name: dotted.
        share: of the importance of all parameters together.
        value: Pearson divergence of where good trials lie from where all lie.
        chance: what 19 of 20 shuffles of the scores stay below; a value under it tells nothing.
        num_trials: complete trials in which the parameter was active.
    """

    name: str
    share: float
    value: float
    chance: float
    num_trials: int

    @property
    def telling(self) -> bool:
        """Whether it stands out of what chance shows."""
        return self.value > self.chance


class Importance(Settings):
    """All searched parameters, the most important first; none, and `note` says why, where trials are too few."""

    parameters: tuple[ParameterImportance, ...] = ()
    num_trials: int
    num_top: int = 0
    note: str

    def rows(self) -> list[dict[str, str]]:
        """For a table."""
        return [
            {
                "parameter": one.name,
                "importance": f"{one.share:.0%}",
                "above chance": "yes" if one.telling else "no",
                "trials": str(one.num_trials),
            }
            for one in self.parameters
        ]
