"""Which format a data set is of: named, or recognised by its files."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from pathlib import Path
from typing import Protocol, cast

from affectgrid.data.catalog import formats
from affectgrid.data.catalog.formats.aff_wild2 import read_aff_wild2
from affectgrid.data.catalog.layout import Labels
from affectgrid.data.catalog.points import LabelPoints, Scale
from affectgrid.data.catalog.reading import require_folder
from affectgrid.data.catalog.tracks import Catalog
from affectgrid.data.catalog.tree import Tree
from affectgrid.errors import CatalogError, ConfigError, Problem, nearest
from affectgrid.storage import Storage

AUTO, FIRST, TABLE = "auto", "aff-wild2", "table"
_SHARED = frozenset({"choice", "rows"})  # modules of the package that are no format


class Format(Protocol):
    """A module of this package."""

    def recognise(self, tree: Tree) -> bool:
        """Whether a data set is of this format, from the names of its files and folders."""

    def read(self, tree: Tree) -> Catalog:
        """Its tracks. Raises CatalogError with all problems at once."""


def format_names() -> tuple[str, ...]:
    """Every format, Aff-Wild2's first, the others by name; no module is imported."""
    modules = {module.name for module in pkgutil.iter_modules(formats.__path__)} - _SHARED
    names = sorted(name.replace("_", "-") for name in modules)
    return (FIRST, *(name for name in names if name != FIRST))


def read_catalog(
    place: Path | str | Storage,
    name: str = AUTO,
    *,
    labels: Labels = "expected",
    label_range: tuple[float, float] | None = None,
) -> Catalog:
    """The tracks of a data set in a folder, or in a folder in a bucket.

    Args:
        place: the top folder.
        name: one of ``format_names``, or ``auto``: recognised by its files.
        labels: as ``read_aff_wild2`` takes it; other formats are recognised by their labels.
        label_range: of a table's labels; other formats have a scale of their own.

    Raises ConfigError: CFG-FORMAT for an unknown name, CFG-RANGE for a range that is none, or of another format;
    CatalogError: CAT-FORMAT where several formats are recognised, and as the format's own ``read`` does.
    """
    names = format_names()
    if name not in (AUTO, *names):
        expected = f"auto, {', '.join(names)}"
        raise ConfigError(
            Problem("CFG-FORMAT", where="format", found=repr(name), expected=expected, hint=nearest(name, names))
        )
    tree = Tree(require_folder(place))
    chosen = _recognise(tree, names) if name == AUTO else name
    catalog = read_aff_wild2(place, labels=labels) if chosen == FIRST else _module(chosen).read(tree)
    return catalog if label_range is None else _with_range(catalog, chosen, *label_range)


def _recognise(tree: Tree, names: tuple[str, ...]) -> str:
    """The only format that takes the tree for its own; Aff-Wild2 before others, and where there is none."""
    if _module(FIRST).recognise(tree):
        return FIRST
    found = [name for name in names if name != FIRST and _module(name).recognise(tree)]
    if len(found) > 1:
        hint = "name it with --format, or point to the folder of one data set"
        expected = "one data set"
        raise CatalogError(
            Problem("CAT-FORMAT", where=str(tree.root), found=" and ".join(found), expected=expected, hint=hint)
        )
    return found[0] if found else FIRST


def _with_range(catalog: Catalog, name: str, low: float, high: float) -> Catalog:
    fault = f"a range for the format {name}" if name != TABLE else None if low < high else f"{low:g} to {high:g}"
    if fault:
        hint = "leave it out, or write the low end first"
        expected = "the ends of a table's scale"
        raise ConfigError(Problem("CFG-RANGE", where="label-range", found=fault, expected=expected, hint=hint))
    scale = Scale(low, high)
    tracks = [
        dataclasses.replace(
            track, annotation=dataclasses.replace(track.annotation, valence_scale=scale, arousal_scale=scale)
        )
        if isinstance(track.annotation, LabelPoints)
        else track
        for track in catalog.tracks
    ]
    return dataclasses.replace(catalog, tracks=tuple(tracks))


def _module(name: str) -> Format:
    return cast(Format, importlib.import_module(f"{formats.__name__}.{name.replace('-', '_')}"))
