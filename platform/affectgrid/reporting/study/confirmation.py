"""What a confirmation says: winner and default with fresh seeds, their difference, and the verdict."""

from __future__ import annotations

import statistics

from affectgrid.analysis.bootstrap import Difference
from affectgrid.analysis.confirmation import Confirmation, Confirmed
from affectgrid.reporting.study.tables import spread
from affectgrid.reporting.tables import Table

_FEW_TRACKS = 20  # a percentile interval over fewer is rough, above all in its tails
_FRESH_NOTE = "P as mean ± standard deviation over fresh seeds; seen: in the search; optimism: seen minus confirmed"
_DIFFERENCE_NOTE = (
    "paired bootstrap over validation tracks, of the mean over the seeds of the pooled P; 'for n tried': Šidák's "
    "level, because the winner of n was picked on these tracks"
)


def confirmation_tables(found: Confirmation | None) -> list[Table]:
    """Winner and default with fresh seeds, and winner minus default; empty without a confirmation."""
    if found is None:
        return []
    rows = [_row(one) for one in (found.winner, found.default) if one is not None]
    pairs = (("tracks", found.over_tracks), ("tracks and seeds", found.over_tracks_and_seeds))
    differences = [_difference_row(drawn, difference) for drawn, difference in pairs if difference is not None]
    tables = [Table.of("Confirmed with fresh seeds", rows, note=_FRESH_NOTE)]
    return tables + ([Table.of("Winner minus default", differences, note=_DIFFERENCE_NOTE)] if differences else [])


def confirmation_sentences(found: Confirmation | None) -> list[str]:
    """What a reader should take away."""
    if found is None:
        return []
    best, said = found.best, []
    if best.optimism is not None:
        mean = statistics.fmean(best.scores)
        said.append(
            f"The search saw P {best.seen:.3f}; {len(best.scores)} fresh seeds give {mean:.3f}: "
            f"its optimism is {best.optimism:+.3f}."
        )
    if found.winner is None:
        return [*said, "The default itself won: there is nothing to compare it with."]
    if found.over_tracks is None:
        return [*said, "No seed was finished by both: they cannot be compared."]
    return [*said, *_verdict(found.over_tracks, found.over_tracks_and_seeds)]


def _row(one: Confirmed) -> dict[str, str]:
    return {
        "what": one.role,
        "seen": "–" if one.seen is None else f"{one.seen:.3f}",
        "confirmed P": spread(one.scores),
        "optimism": "–" if one.optimism is None else f"{one.optimism:+.3f}",
        "seeds": f"{len(one.scores)}" + (f" ({one.num_failed} failed)" if one.num_failed else ""),
        "settings": one.label,
    }


def _verdict(over_tracks: Difference, over_seeds: Difference | None) -> list[str]:
    strict = over_seeds or over_tracks
    if strict.low_corrected > 0:
        verdict = "better than the default, even allowing for all that was tried"
    elif over_tracks.low > 0:
        verdict = "better than the default only if nothing else had been tried: not shown"
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
