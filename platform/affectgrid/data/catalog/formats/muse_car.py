"""MuSe-CaR as MuSe 2020 and 2021 shipped it: a CSV file per video and dimension, four rows a second, in [-1, 1].

    label_segments/{valence,arousal}/<video>.csv    timestamp,value,segment_id; timestamps are milliseconds
    metadata/partition.csv                          the video in the first column, train, devel or test in the last
    <any folder>/<video>.mp4

`label_segments` and `metadata` may lie in a folder of the sub-challenge, such as c1_muse_wilder. Between segments there
is no label.
"""

from __future__ import annotations

from pathlib import Path

from affectgrid.data.catalog.formats.rows import MISSING, LabelReader, read_rows, with_header
from affectgrid.data.catalog.layout import SplitName, find_layout
from affectgrid.data.catalog.points import UNIT, Course, LabelPoints, Points
from affectgrid.data.catalog.reading import Media, by_id, make_catalog, pair_dimensions
from affectgrid.data.catalog.tracks import Catalog
from affectgrid.data.catalog.tree import Tree
from affectgrid.errors import AnnotationError, CatalogError, Problem

_LABELS, _DIMENSIONS = "label_segments", ("valence", "arousal")
_SPLITS: dict[str, SplitName] = {"train": "train", "devel": "validation", "test": "test"}
_MS = 1e-3


def recognise(tree: Tree) -> bool:
    """Whether there are folders of labels for both dimensions."""
    return all(tree.find(_LABELS, name) for name in _DIMENSIONS)


def read(tree: Tree) -> Catalog:
    """The splits are the partition's. A video of its test split whose labels were withheld has none."""
    problems: list[Problem] = []
    layout = find_layout(tree)
    media = Media.find(tree, layout, problems)
    valence, arousal = (by_id(tree, tree.files(tree.find(_LABELS, name) or name), problems) for name in _DIMENSIONS)
    splits = _partition(tree)
    tracks = []
    for name, pair in pair_dimensions(tree.root, valence, arousal, problems).items():
        if name not in splits:
            hint = "add it to the partition, or remove its labels"
            problems.append(Problem("CAT-SPLIT", str(tree.root), f"{name!r} in no split", "a row for each video", hint))
            continue
        withheld = splits[name] == "test" and _is_withheld(pair[0])
        labels = None if withheld else LabelPoints(pair[0], others=(pair[1],), read_points=read_points)
        tracks.append(media.track(name, splits[name], labels))
    return make_catalog(tree.root, [*tracks, *media.without_labels(tracks)], problems, layout)


def read_points(source: LabelPoints) -> Points:
    """Labels of one video. Raises AnnotationError: ANN-HEADER, and as ``LabelReader.course``."""
    reader = LabelReader(source)
    valence, arousal = (_course(path, reader) for path in source.paths)
    return Points(valence, arousal, "seconds", reader.odd)


def _course(path: Path, reader: LabelReader) -> Course:
    (at, value), rows = with_header(path, read_rows(path), ("timestamp", "value"))
    return reader.course(path, rows, at, [value], UNIT, unit=_MS)


def _partition(tree: Tree) -> dict[str, SplitName]:
    """The split of each video. Raises CatalogError (CAT-SPLIT) without a partition, or for an unknown split."""
    folder = tree.find("metadata") or "metadata"
    file = next((item for item in tree.files(folder) if item.name.endswith("/partition.csv")), None)
    if file is None:
        where = tree.storage.show(f"{folder}/partition.csv")
        raise CatalogError(Problem("CAT-SPLIT", where, "no such file", "the splits of the videos", "download it too"))
    splits: dict[str, SplitName] = {}
    for line, cells in read_rows(file.path)[1:]:
        if cells[-1].lower() not in _SPLITS:
            where, hint = f"{tree.storage.show(file.name)}:{line}", "correct this line"
            expected = ", ".join(_SPLITS)
            raise CatalogError(Problem("CAT-SPLIT", where, repr(cells[-1]), expected, hint))
        splits[cells[0]] = _SPLITS[cells[-1].lower()]
    return splits


def _is_withheld(path: Path) -> bool:
    try:
        (value,), rows = with_header(path, read_rows(path), ("value",))
    except AnnotationError:
        return False  # it is told when the labels are read
    return all(cells[value].lower() in MISSING for _, cells in rows if len(cells) > value)
