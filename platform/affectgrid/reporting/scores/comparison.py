"""Tables of several models' scores, and of one model's scores by track and by person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePosixPath

from affectgrid.analysis.bootstrap import Difference
from affectgrid.analysis.evaluation import Compared
from affectgrid.reporting.tables import Table
from affectgrid.training.inference.groups import GroupScore

_INNER = {"model", "ensemble.json", "best"}  # names inside a run's or a study's folder, which tell nothing


def comparison_table(compared: Sequence[Compared]) -> Table:
    """A row for each model; what it has more or less than the first one."""
    names = short_names([one.name for one in compared])
    note = f"{_note(compared)} It is about these trained models: whether a setting is better, several seeds must say."
    return Table.of("Models on the same frames", _rows("model", names, compared), note=note)


def robustness_table(compared: Sequence[Compared]) -> Table:
    """A row for each impairment of the input; what it takes from P."""
    return Table.of("Impaired input", _rows("input", [one.name for one in compared], compared), note=_note(compared))


def group_table(title: str, kind: str, groups: Sequence[GroupScore]) -> Table:
    """Scores within each track or person, the lowest P first; those without a labelled frame come last."""
    ranked = sorted(groups, key=lambda one: (math.isnan(one.p), one.p))
    rows = [
        {kind: one.name}
        | ({"tracks": str(one.num_tracks)} if kind != "track" else {})
        | {"frames": str(one.num_frames)}
        | {"CCC-V": _number(one.ccc_valence), "CCC-A": _number(one.ccc_arousal), "P": _number(one.p)}
        | {"RMSE": _number(one.rmse)}
        for one in ranked
    ]
    note = "CCC compares with the variation within the row's own frames: a mean of these is not the split's P"
    return Table.of(title, rows, note=note, sortable=True)


def short_names(addresses: Sequence[str]) -> list[str]:
    """As few of the last parts of each path as tell them apart, without the names that each run has."""
    paths = [PurePosixPath(address).parts for address in addresses]
    outer = [_without_inner(parts) for parts in paths]
    found = []
    for own, whole, address in zip(outer, paths, addresses, strict=True):
        others = [other for other, path in zip(outer, paths, strict=True) if path != whole]
        lengths = (n for n in range(1, len(own) + 1) if all(other[-n:] != own[-n:] for other in others))
        length = next(lengths, 0)
        found.append("/".join(own[-length:]) if length else address)
    return found


def _without_inner(parts: tuple[str, ...]) -> tuple[str, ...]:
    while len(parts) > 1 and parts[-1] in _INNER:
        parts = parts[:-1]
    return parts


def _rows(kind: str, names: Sequence[str], compared: Sequence[Compared]) -> list[dict[str, str]]:
    first = names[0]
    return [
        {kind: name, "CCC-V": _number(one.ccc_valence), "CCC-A": _number(one.ccc_arousal), "P": _number(one.p)}
        | {f"P - {first}": _difference(one.difference), "corrected": _corrected(one.difference)}
        for name, one in zip(names, compared, strict=True)
    ]


def _note(compared: Sequence[Compared]) -> str:
    found = compared[-1].difference
    if found is None:
        return ""
    return (
        f"Paired: P minus the first row's with its {found.confidence:.0%} interval over {found.num_videos} raw videos; "
        f"corrected: for {found.num_comparisons} comparisons (Šidák); *: it leaves out zero."
    )


def _difference(found: Difference | None) -> str:
    return "" if found is None else f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _corrected(found: Difference | None) -> str:
    if found is None:
        return ""
    star = "*" if found.low_corrected > 0 or found.high_corrected < 0 else ""
    return f"[{found.low_corrected:+.3f}, {found.high_corrected:+.3f}]{star}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
