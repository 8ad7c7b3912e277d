"""RECOLA, as its authors and as the challenges AVEC 2015 and 2016 shipped it: a file per person and dimension.

    ratings_gold_standard/{valence,arousal}/train_1.arff    AVEC: name, time, value; the split: train_, dev_, test_
    RECOLA-Annotation/emotional_behaviour/{valence,arousal}/P16.csv    its authors: time;FM1;FM2;..., a column a rater
    <any folder>/train_1.mp4, P16.mp4

Rows are 0.04 s apart, in [-1, 1]. Of several raters the mean counts; AVEC's gold standard weighs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from affectgrid.data.catalog.formats.rows import LabelReader, Row, read_rows
from affectgrid.data.catalog.layout import SplitName, find_layout
from affectgrid.data.catalog.points import UNIT, Course, LabelPoints, Points, refuse
from affectgrid.data.catalog.reading import Media, by_id, make_catalog, pair_dimensions
from affectgrid.data.catalog.tracks import Catalog
from affectgrid.data.catalog.tree import Tree
from affectgrid.errors import Problem

_FOLDERS = (("ratings_gold_standard", ".arff"), ("emotional_behaviour", ".csv"))
_DIMENSIONS = ("valence", "arousal")
_SPLITS: dict[str, SplitName] = {"train": "train", "dev": "validation", "test": "test"}


def recognise(tree: Tree) -> bool:
    """Whether there are folders of labels for both dimensions."""
    return any(all(tree.find(folder, name) for name in _DIMENSIONS) for folder, _ in _FOLDERS)


def read(tree: Tree) -> Catalog:
    """The splits are AVEC's; its authors' files are all in the training split."""
    problems: list[Problem] = []
    layout = find_layout(tree)
    media = Media.find(tree, layout, problems)
    folder, ending = next((both for both in _FOLDERS if tree.find(both[0], "valence")), _FOLDERS[0])
    valence, arousal = (
        by_id(tree, [f for f in tree.files(tree.find(folder, name) or name) if f.name.endswith(ending)], problems)
        for name in _DIMENSIONS
    )
    tracks = [
        media.track(name, _split(name), LabelPoints(pair[0], others=(pair[1],), read_points=read_points))
        for name, pair in pair_dimensions(tree.root, valence, arousal, problems).items()
    ]
    return make_catalog(tree.root, [*tracks, *media.without_labels(tracks)], problems, layout)


def read_points(source: LabelPoints) -> Points:
    """Labels of one person. Raises AnnotationError: ANN-HEADER, and as ``LabelReader.course``."""
    reader = LabelReader(source)
    valence, arousal = (_course(path, reader) for path in source.paths)
    return Points(valence, arousal, "seconds", reader.odd)


def _split(name: str) -> SplitName:
    return _SPLITS.get(name.lower().partition("_")[0], "train")


def _course(path: Path, reader: LabelReader) -> Course:
    names, rows = _arff(path) if path.suffix.lower() == ".arff" else _csv(path)
    at = next((place for place, name in enumerate(names) if "time" in name.lower()), None)
    values = [place for place, name in enumerate(names) if at is not None and place > at and name]
    if at is None or not values:
        found, expected = f"columns {', '.join(names)}", "a time and, after it, labels"
        refuse(path, "ANN-HEADER", found, expected, "restore the file", line=1)
    return reader.course(path, rows, at, values, UNIT)


def _csv(path: Path) -> tuple[list[str], Sequence[Row]]:
    rows = read_rows(path, ";")
    return (rows[0][1], rows[1:]) if rows else ([], [])


def _arff(path: Path) -> tuple[list[str], Sequence[Row]]:
    """Names of the attributes, and the rows after @data; comments begin with %."""
    rows = [(line, cells) for line, cells in read_rows(path) if not cells[0].startswith("%")]
    names = [cells[0].split()[1] for _, cells in rows if cells[0].lower().startswith("@attribute ")]
    begin = next((place for place, (_, cells) in enumerate(rows) if cells[0].lower() == "@data"), None)
    if begin is None:
        refuse(path, "ANN-HEADER", "no line @data", "an ARFF file", "restore the file")
    return names, rows[begin + 1 :]
