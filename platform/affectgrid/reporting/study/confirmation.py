"""What a confirmation says: winner and default with fresh seeds, their difference, and the verdict."""

from __future__ import annotations

import statistics

from affectgrid.analysis.bootstrap import MIN_SEEDS, Difference
from affectgrid.analysis.confirmation import Confirmation, Confirmed
from affectgrid.reporting.study.tables import spread
from affectgrid.reporting.tables import Table

_FEW_VIDEOS = 20  # with fewer, neither the bootstrap's variance nor the t distribution is a good description
_FRESH_NOTE = (
    "P as mean ± standard deviation over fresh seeds; seen: in the search; luck of training: seen minus confirmed"
)
_DIFFERENCE_NOTE = (
    "intervals allow for the choice of videos and of seeds; 'for n tried': Šidák's level, because the winner of n was "
    "picked on these videos"
)


def confirmation_tables(found: Confirmation | None) -> list[Table]:
    """Winner and default with fresh seeds, and winner minus default; empty without a confirmation."""
    if found is None:
        return []
    rows = [_row(one) for one in (found.winner, found.default) if one is not None]
    tables = [Table.of("Confirmed with fresh seeds", rows, note=_FRESH_NOTE)]
    if found.difference is not None:
        tables.append(Table.of("Winner minus default", [_difference_row(found.difference)], note=_DIFFERENCE_NOTE))
    return tables


def confirmation_sentences(found: Confirmation | None, choice_optimism: float | None = None) -> list[str]:
    """What a reader should take away. `choice_optimism`: see `analysis.optimism`."""
    if found is None:
        return []
    best, said = found.best, []
    if best.training_luck is not None:
        mean = statistics.fmean(best.scores)
        said.append(
            f"The search saw P {best.seen:.3f}; {len(best.scores)} fresh seeds give {mean:.3f}: "
            f"the luck of its training was {best.training_luck:+.3f}."
        )
        if choice_optimism is not None:
            said.append(
                f"Fresh seeds are scored on the same videos: about {choice_optimism:+.3f} is the choice of the "
                "best on them, which other videos would not have (estimated on halves)."
            )
    if found.winner is None:
        return [*said, "The default itself won: there is nothing to compare it with."]
    return [*said, *_verdict(found.difference)] if found.difference else said


def _row(one: Confirmed) -> dict[str, str]:
    return {
        "what": one.role,
        "seen": "–" if one.seen is None else f"{one.seen:.3f}",
        "confirmed P": spread(one.scores),
        "luck of training": "–" if one.training_luck is None else f"{one.training_luck:+.3f}",
        "seeds": f"{len(one.scores)}" + (f" ({one.num_failed} failed)" if one.num_failed else ""),
        "settings": one.label,
    }


def _verdict(difference: Difference) -> list[str]:
    if difference.num_seeds < MIN_SEEDS:
        verdict = f"not judged: {difference.num_seeds} seeds are too few, {MIN_SEEDS} are needed"
    elif difference.low_corrected > 0:
        verdict = "better than the default, even allowing for all that was tried"
    elif difference.low > 0:
        verdict = "better than the default only if nothing else had been tried: not shown"
    else:
        verdict = "not shown to be better than the default"
    said = [f"The winner is {verdict}."]
    if difference.num_videos < _FEW_VIDEOS:
        said.append(f"With {difference.num_videos} videos the interval is rough.")
    return said


def _difference_row(difference: Difference) -> dict[str, str]:
    corrected = f"{difference.low_corrected:+.3f} to {difference.high_corrected:+.3f}"
    return {
        "winner - default": f"{difference.estimate:+.3f}",
        f"{difference.confidence:.0%} interval": f"{difference.low:+.3f} to {difference.high:+.3f}",
        f"for {difference.num_comparisons} tried": corrected,
        "sd, videos": f"{difference.video_sd:.3f}",
        "sd, seeds": f"{difference.seed_sd:.3f}" if difference.seed_sd or difference.num_seeds > 1 else "unknown",
        "videos": str(difference.num_videos),
    }
