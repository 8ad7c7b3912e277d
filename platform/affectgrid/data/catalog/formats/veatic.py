"""VEATIC: a pair of CSV files per video without a header, a rating in [-1, 1] on each line, line k of frame k.

    videos/0.mp4                        rating_averaged/0_valence.csv, 0_arousal.csv

Its own split cuts every video in two by time. Here a split holds whole videos, so that there is none to take over.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from affectgrid.data.catalog.formats.rows import LabelReader, read_rows
from affectgrid.data.catalog.layout import find_layout
from affectgrid.data.catalog.points import UNIT, Course, LabelPoints, Points
from affectgrid.data.catalog.reading import Media, by_id, make_catalog, pair_dimensions
from affectgrid.data.catalog.tracks import Catalog
from affectgrid.data.catalog.tree import Tree
from affectgrid.errors import Problem

_FOLDER, _ENDS = "rating_averaged", ("_valence", "_arousal")


def recognise(tree: Tree) -> bool:
    """Whether there is a folder of averaged ratings."""
    return tree.find(_FOLDER) is not None


def read(tree: Tree) -> Catalog:
    """Every labelled video is in the training split."""
    problems: list[Problem] = []
    layout = find_layout(tree)
    media = Media.find(tree, layout, problems)
    files = by_id(tree, tree.files(tree.find(_FOLDER) or _FOLDER), problems)
    valence, arousal = ({n.removesuffix(end): p for n, p in files.items() if n.endswith(end)} for end in _ENDS)
    tracks = [
        media.track(name, "train", LabelPoints(pair[0], others=(pair[1],), read_points=read_points))
        for name, pair in pair_dimensions(tree.root, valence, arousal, problems).items()
    ]
    return make_catalog(tree.root, [*tracks, *media.without_labels(tracks)], problems, layout)


def read_points(source: LabelPoints) -> Points:
    """Labels of one video. Raises AnnotationError as ``LabelReader.label``."""
    reader = LabelReader(source)
    valence, arousal = (_course(path, reader) for path in source.paths)
    return Points(valence, arousal, "frames", reader.odd)


def _course(path: Path, reader: LabelReader) -> Course:
    rows = read_rows(path)
    values = np.array([reader.label(path, line, cells[0], UNIT) for line, cells in rows])
    return Course(np.array([line for line, _ in rows], dtype=np.float64), values)
