"""What a confirmation found, as it is kept, and as a reader is told of it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pydantic import Field, JsonValue

from affectgrid.analysis.bootstrap import Difference
from affectgrid.settings import Settings

Metrics = dict[str, float]
_FEW_TRACKS = 20  # a percentile interval over fewer is rough, above all far out in its tails


class ConfirmRun(Settings):
    """One configuration trained with one fresh seed.

    Args:
        identity: of the run (`run_identity`): a file of other data or settings does not count.
        best: metrics of the epoch that was kept; empty where the run failed, and `reason` says why.
        history: metrics of every epoch.
        moments: of the kept model's predictions, [track][stat][axis], in the order of the validation split.
    """

    seed: int
    identity: str
    best: Metrics = Field(default_factory=dict)
    history: tuple[Metrics, ...] = ()
    moments: tuple[tuple[tuple[float, ...], ...], ...] = ()
    duration_s: float = 0.0
    reason: str | None = None


class Confirmed(Settings):
    """One configuration and its fresh runs. `seen` is its objective in the search, None where it was not finished."""

    role: str
    label: str
    values: dict[str, JsonValue]
    seen: float | None
    runs: tuple[ConfirmRun, ...] = ()

    @property
    def scores(self) -> list[float]:
        """P of every run that came to an end."""
        return [run.best["val/p"] for run in self.runs if run.best]

    @property
    def optimism(self) -> float | None:
        """What the search saw minus what fresh seeds give."""
        return None if self.seen is None or not self.scores else self.seen - statistics.fmean(self.scores)

    def row(self) -> dict[str, str]:
        """For a table."""
        failed = sum(run.reason is not None for run in self.runs)
        return {
            "what": self.role,
            "seen": "–" if self.seen is None else f"{self.seen:.3f}",
            "confirmed P": _spread(self.scores),
            "optimism": "–" if self.optimism is None else f"{self.optimism:+.3f}",
            "seeds": f"{len(self.scores)}" + (f" ({failed} failed)" if failed else ""),
            "settings": self.label,
        }


class Confirmation(Settings):
    """The winner beside the default; `winner` is None where the default itself won.

    Args:
        num_tried: configurations other than the default that the winner was picked from.
        over_tracks: winner minus default, tracks drawn anew.
        over_tracks_and_seeds: the same with the seeds drawn anew too; None with one seed.
    """

    default: Confirmed
    winner: Confirmed | None
    num_tried: int
    over_tracks: Difference | None = None
    over_tracks_and_seeds: Difference | None = None

    @property
    def best(self) -> Confirmed:
        """What the search recommends."""
        return self.winner or self.default

    @property
    def num_failed(self) -> int:
        """Runs that failed."""
        return sum(run.reason is not None for one in (self.default, self.winner) if one for run in one.runs)

    def rows(self) -> list[dict[str, str]]:
        """The configurations."""
        return [one.row() for one in (self.winner, self.default) if one is not None]

    def difference_rows(self) -> list[dict[str, str]]:
        """Winner minus default, with its intervals."""
        found = (("tracks", self.over_tracks), ("tracks and seeds", self.over_tracks_and_seeds))
        return [_difference_row(drawn, difference) for drawn, difference in found if difference is not None]

    def failures(self) -> list[dict[str, str]]:
        """Runs that failed, with their reasons."""
        runs = [(one.role, run) for one in (self.default, self.winner) if one for run in one.runs]
        return [
            {"trial": f"confirm {role}", "what": f"seed {run.seed}", "reason": run.reason}
            for role, run in runs
            if run.reason is not None
        ]

    def sentences(self) -> list[str]:
        """What a reader should take away."""
        best, said = self.best, []
        if best.optimism is not None:
            mean = statistics.fmean(best.scores)
            said.append(
                f"The search saw P {best.seen:.3f}; {len(best.scores)} fresh seeds give {mean:.3f}: "
                f"its optimism is {best.optimism:+.3f}."
            )
        if self.winner is None:
            return [*said, "The default itself won: there is nothing to compare it with."]
        if self.over_tracks is None:
            return [*said, "No seed came to an end with both: they cannot be compared."]
        return [*said, *_verdict(self.over_tracks, self.over_tracks_and_seeds)]


def _verdict(over_tracks: Difference, over_seeds: Difference | None) -> list[str]:
    strict = over_seeds or over_tracks
    if strict.low_corrected > 0:
        verdict = "better than the default, also when all that was tried is allowed for"
    elif over_tracks.low > 0:
        verdict = "better than the default only as if nothing else had been tried: not shown"
    else:
        verdict = "not shown to be better than the default"
    said = [f"The winner is {verdict}."]
    if over_tracks.num_tracks < _FEW_TRACKS:
        said.append(f"With {over_tracks.num_tracks} tracks the intervals are rough.")
    return said


def _difference_row(drawn: str, difference: Difference) -> dict[str, str]:
    corrected = f"{difference.low_corrected:+.3f} to {difference.high_corrected:+.3f}"
    return {
        "drawn anew": drawn,
        "winner - default": f"{difference.estimate:+.3f}",
        f"{difference.confidence:.0%} interval": f"{difference.low:+.3f} to {difference.high:+.3f}",
        f"for {difference.num_comparisons} tried": corrected,
        "tracks": str(difference.num_tracks),
    }


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    mean = statistics.fmean(values)
    return f"{mean:.3f} ± {statistics.stdev(values):.3f}" if len(values) > 1 else f"{mean:.3f}"
