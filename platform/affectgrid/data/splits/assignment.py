"""Which track is in which split: drawn by groups, written to a file, read from it."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from affectgrid.data.catalog import Catalog, SplitName, Track
from affectgrid.data.catalog.people import read_people
from affectgrid.data.leakage import copies
from affectgrid.data.splits.folds import make_folds
from affectgrid.data.survey import TrackFacts, looks_of, regions_of
from affectgrid.errors import CatalogError, ConfigError, Problem, nearest
from affectgrid.settings import Settings
from affectgrid.storage import write_atomic

_PARTS = 20  # into which the tracks are cut before they are shared out: shares are met to about a twentieth
_MAX_NAMED = 10


class SplitSettings(Settings):
    """How splits are drawn."""

    seed: int = Field(0, ge=0, description="another seed draws other splits")
    validation: float = Field(0.2, gt=0, lt=1, description="share of the labelled frames that are validated on")
    test: float = Field(0.0, ge=0, lt=1, description="share of the labelled frames that are kept for a test")
    folds: int = Field(0, ge=0, description="number the tracks of training and validation for so many folds, too")
    people: Path | None = Field(
        None,
        description="CSV with columns track,person: tracks of one person stay together; it comes before the data set",
    )

    @model_validator(mode="after")
    def _leave_some(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test leave nothing to learn from; make them smaller")
        if self.folds == 1:
            raise ValueError("folds 1 leaves nothing to learn from; ask for 2 or more")
        return self


def group_tracks(tracks: Sequence[Track], same: Iterable[tuple[str, str]] = ()) -> list[str]:
    """For each track the first of its group: tracks of one recording, of one subject, or linked through others.

    `same`: pairs of ids of tracks that show the same, although nothing says so.
    """
    leader: dict[Hashable, Hashable] = {}

    def find(item: Hashable) -> Hashable:
        while (above := leader.setdefault(item, item)) != item:
            item = above
        return item

    def join(first: Hashable, second: Hashable) -> None:
        leader[find(second)] = find(first)

    for track in tracks:
        join(("track", track.id), ("recording", track.recording))
        if track.subject:
            join(("track", track.id), ("subject", track.subject))
    for first, second in same:
        join(("track", first), ("track", second))
    first_of: dict[Hashable, str] = {}
    return [first_of.setdefault(find(("track", track.id)), track.id) for track in tracks]


def draw_and_write(
    path: Path, facts: Sequence[TrackFacts], problems: Iterable[Problem], settings: SplitSettings
) -> str:
    """Draw splits from what `validate` has found, write them, and say what they are, in a line.

    Tracks that look the same stay together; the regions are those of the 3x3 grid. Raises CatalogError where there are
    errors beside leaks: a track whose labels cannot be read would count as one without any. Else as ``draw_splits`` and
    ``read_people``.
    """
    errors = [problem for problem in problems if problem.severity == "error" and problem.code != "VAL-LEAK"]
    if errors:
        found, hint = f"{len(errors)} errors", "mend them first"
        raise CatalogError(_problem(path, found, "a data set without errors, but leaks", hint))
    tracks, regions = [one.track for one in facts], [regions_of(one.va) for one in facts]
    who = read_people(settings.people, [track.id for track in tracks]) if settings.people else {}
    tracks = [dataclasses.replace(track, subject=who.get(track.id, track.subject)) for track in tracks]
    drawn = draw_splits(tracks, regions, settings, copies(looks_of(facts)))
    write_splits(path, drawn)
    labels: dict[str, list[int]] = {}
    for track, own in zip(drawn, regions, strict=True):
        labels.setdefault(track.split, []).append(len(own))
    told = (f"{name} {len(labels[name])} tracks, {sum(labels[name]):,} labels" for name in sorted(labels))
    return f"splits   {path}: {'; '.join(told)}"


def draw_splits(
    tracks: Sequence[Track],
    regions: Sequence[NDArray[np.int64]],
    settings: SplitSettings,
    same: Iterable[tuple[str, str]] = (),
) -> list[Track]:
    """The tracks with splits drawn for those with labels; the others are the test split.

    A group is never torn apart, and the splits have about the same share of each region. Equal seeds draw equal splits.

    Args:
        tracks: all of a data set.
        regions: of each labelled frame of each track; empty for a track without labels.
        settings: the shares.
        same: as ``group_tracks`` takes it.

    Raises ConfigError (CFG-FOLDS) for fewer groups than splits or folds.
    """
    labelled = [place for place, own in enumerate(regions) if len(own)]
    groups = group_tracks(tracks, same)
    own_groups, own_regions = [groups[place] for place in labelled], [regions[place] for place in labelled]
    num_parts = max(min(_PARTS, len(set(own_groups))), 3 if settings.test else 2)
    parts = np.array(make_folds(own_groups, own_regions, num_parts, settings.seed))
    parts = np.random.default_rng(settings.seed).permutation(num_parts)[parts]  # which of them are held out
    frames = [float(len(own)) for own in own_regions]
    sizes: NDArray[np.float64] = np.bincount(parts, weights=frames, minlength=num_parts).astype(np.float64)
    num_held = _reach(sizes, settings.validation)
    num_tested = _reach(sizes[num_held:], settings.test * sizes.sum() / sizes[num_held:].sum()) if settings.test else 0
    splits: list[SplitName] = ["test"] * len(tracks)
    for place, part in zip(labelled, parts, strict=True):
        splits[place] = "validation" if part < num_held else "test" if part < num_held + num_tested else "train"
    drawn = [dataclasses.replace(one, split=split, fold=None) for one, split in zip(tracks, splits, strict=True)]
    if not settings.folds:
        return drawn
    learnt = [place for place in labelled if splits[place] != "test"]
    own = [groups[place] for place in learnt], [regions[place] for place in learnt]
    for place, fold in zip(learnt, make_folds(*own, settings.folds, settings.seed), strict=True):
        drawn[place] = dataclasses.replace(drawn[place], fold=fold)
    return drawn


def _reach(sizes: NDArray[np.float64], share: float) -> int:
    """How many parts from the first come nearest to a share of all: at least one, and not all."""
    sums = np.cumsum(sizes)[:-1]
    return int(np.argmin(np.abs(sums - share * sizes.sum()))) + 1


def splits_text(tracks: Iterable[Track], fold_of: Mapping[str, int] | None = None) -> str:
    """A CSV file of the tracks' splits, and of their folds where there are any; `fold_of` in place of their own."""
    rows = _rows(tracks, fold_of)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["track", "split"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def write_splits(path: Path, tracks: Iterable[Track]) -> Path:
    """Write what ``with_splits`` reads: CSV, or JSON where the name ends so. Raises StoreError."""
    rows = _rows(tracks, None)
    return write_atomic(path, json.dumps(rows, indent=1) + "\n" if path.suffix == ".json" else splits_text(tracks))


def _rows(tracks: Iterable[Track], fold_of: Mapping[str, int] | None) -> list[dict[str, Any]]:
    tracks = sorted(tracks, key=lambda track: track.id)
    folds = [track.fold if fold_of is None else fold_of.get(track.id) for track in tracks]
    if all(fold is None for fold in folds):
        return [{"track": track.id, "split": track.split} for track in tracks]
    return [{"track": t.id, "split": t.split, "fold": fold} for t, fold in zip(tracks, folds, strict=True)]


def with_splits(catalog: Catalog, path: Path | None) -> Catalog:
    """The tracks in the splits that a file says; those that it does not name are left out, and noted. None: as it is.

    Raises CatalogError (CAT-SPLITS) for a file that cannot be read, a row without a track and a split, a track that is
    there twice or is none, and a fold that is no number: the first ten of each.
    """
    if path is None:
        return catalog
    found, problems = _read_splits(path)
    known = {track.id: track for track in sorted(catalog.tracks, key=lambda track: track.annotation is not None)}
    unknown = [name for name in found if name not in known]
    for name in unknown[:_MAX_NAMED]:
        problems.append(_problem(path, f"{name!r} is no track", "names of tracks", nearest(name, known)))
    if problems:
        raise CatalogError(*problems[:_MAX_NAMED])
    tracks = [dataclasses.replace(known[name], split=split, fold=fold) for name, (split, fold) in sorted(found.items())]
    absent = sorted(known.keys() - found.keys())
    notes = catalog.notes
    if absent:
        named = ", ".join(absent[:_MAX_NAMED]) + (f" ... {len(absent)} in all" if len(absent) > _MAX_NAMED else "")
        note = _problem(path, f"without {named}", "every track", "they are left out; write the file again")
        notes = (*notes, dataclasses.replace(note, severity="warning"))
    return dataclasses.replace(catalog, tracks=tuple(tracks), notes=notes)


def require_folds(tracks: Sequence[Track], num_folds: int) -> tuple[int, ...] | None:
    """The folds that a file of splits gives the tracks; None without any. Raises ConfigError (CFG-FOLDS) for others."""
    folds = [track.fold for track in tracks]
    if all(fold is None for fold in folds):
        return None
    named = {fold for fold in folds if fold is not None}
    if None in folds or named != set(range(num_folds)):
        without = f", and {folds.count(None)} tracks without" if None in folds else ""
        found, expected = (
            f"folds {', '.join(map(str, sorted(named)))}{without}",
            f"0 to {num_folds - 1} for every track",
        )
        hint = "ask for as many folds as the file of splits has, or write it again"
        raise ConfigError(Problem("CFG-FOLDS", where="folds", found=found, expected=expected, hint=hint))
    return tuple(fold for fold in folds if fold is not None)


def _read_splits(path: Path) -> tuple[dict[str, tuple[SplitName, int | None]], list[Problem]]:
    problems: list[Problem] = []
    found: dict[str, tuple[SplitName, int | None]] = {}
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = json.loads(text) if path.suffix == ".json" else list(csv.DictReader(text.splitlines()))
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        return {}, [_problem(path, str(error), "a CSV or JSON file", "write it with jobs/validate.py --write-splits")]
    if not isinstance(rows, list) or not rows:
        return {}, [_problem(path, "no row", "rows of track and split", "write one for each track")]
    for number, row in enumerate(rows, 1):
        cells = row if isinstance(row, dict) else {}
        texts = ("" if cells.get(key) is None else str(cells[key]).strip() for key in ("track", "split", "fold"))
        name, split, fold = texts
        if not name or split not in get_args(SplitName):
            expected = f"a track, and {', '.join(get_args(SplitName))}"
            problems.append(_problem(path, f"row {number}: {name!r}, {split!r}", expected, "correct it"))
        elif name in found:
            problems.append(_problem(path, f"row {number}: {name!r} again", "each track once", "remove a row"))
        elif fold and not (fold.isascii() and fold.isdigit()):
            problems.append(_problem(path, f"row {number}: fold {fold!r}", "a number from 0", "correct it"))
        else:
            found[name] = (split, int(fold) if fold else None)  # type: ignore[assignment]
    return found, problems


def _problem(path: Path, found: str, expected: str, hint: str) -> Problem:
    return Problem("CAT-SPLITS", where=str(path), found=found, expected=expected, hint=hint)
