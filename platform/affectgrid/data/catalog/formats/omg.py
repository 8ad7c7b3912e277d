"""OMG-Emotion: a CSV file per split, a row and a video per utterance; valence in [-1, 1], arousal in [0, 1].

    omg_TrainVideos.csv, omg_ValidationVideos.csv, omg_TestVideos_WithLabels.csv
                                    link,start,end,video,utterance,arousal,valence,EmotionMaxVote
    <any folder>/<video>/utterance_1.mp4

Every frame of an utterance has its label. The utterances of a video share its recording.
"""

from __future__ import annotations

import functools
from pathlib import Path, PurePosixPath

import numpy as np

from affectgrid.data.catalog.formats.rows import LabelReader, Row, read_rows, with_header
from affectgrid.data.catalog.layout import VIDEO_SUFFIXES, SplitName
from affectgrid.data.catalog.points import UNIT, Course, LabelPoints, Points, Scale, Version, refuse, version
from affectgrid.data.catalog.reading import make_catalog
from affectgrid.data.catalog.tracks import Catalog, Track
from affectgrid.data.catalog.tree import Item, Tree
from affectgrid.errors import AnnotationError, Problem

_SPLITS: dict[str, SplitName] = {
    "omg_trainvideos": "train",
    "omg_validationvideos": "validation",
    "omg_testvideos_withlabels": "test",
}
_COLUMNS = ("video", "utterance", "valence", "arousal")
AROUSAL = Scale(0, 1)


def recognise(tree: Tree) -> bool:
    """Whether there is the file of a split."""
    return bool(_files(tree))


def read(tree: Tree) -> Catalog:
    """A track per row, named ``<video>-<utterance>``, in the split of its file."""
    problems: list[Problem] = []
    keys: list[tuple[Item, str]] = []
    for item in _files(tree):
        try:
            keys += [(item, key) for key in _utterances(item.path, version(item.path))]
        except AnnotationError as error:
            problems += error.problems
    videos = _videos(tree, {key.split("/")[0] for _, key in keys})
    tracks = []
    for item, key in keys:
        labels = LabelPoints(item.path, key=key, read_points=read_points, arousal_scale=AROUSAL)
        video, _, utterance = str(PurePosixPath(key).with_suffix("")).partition("/")
        path, split = videos.get((video, utterance)), _SPLITS[item.id.lower()]
        tracks.append(Track(f"{video}-{utterance}", split, path, None, labels, source=video))
    return make_catalog(tree.root, tracks, problems)


def read_points(source: LabelPoints) -> Points:
    """The label of one utterance. Raises AnnotationError: ANN-HEADER, ANN-ROW, and as ``LabelReader.label``."""
    own = _utterances(source.path, version(source.path)).get(source.key, [])
    if len(own) != 1:
        found, expected = f"{len(own)} rows of {source.key}", "one row for an utterance"
        refuse(source.path, "ANN-ROW", found, expected, "remove the others")
    (line, cells), reader = own[0], LabelReader(source)
    valence, arousal = (
        Course(np.zeros(0), np.array([reader.label(source.path, line, cell, scale)]))
        for cell, scale in zip(cells, (UNIT, AROUSAL), strict=True)
    )
    return Points(valence, arousal, "track", reader.odd)


@functools.lru_cache(maxsize=4)
def _utterances(path: Path, version: Version) -> dict[str, list[Row]]:
    """Lines, valence and arousal of one version of a file, by ``<video>/<utterance>``."""
    found: dict[str, list[Row]] = {}
    (*names, valence, arousal), rows = with_header(path, read_rows(path), _COLUMNS)
    for line, cells in rows:
        if len(cells) > max(*names, valence, arousal):
            key = "/".join(cells[place] for place in names)
            found.setdefault(key, []).append((line, [cells[valence], cells[arousal]]))
    return found


def _files(tree: Tree) -> list[Item]:
    files = (item for folder in tree.upper_folders for item in tree.files(folder))
    return [item for item in files if item.name.lower().endswith(".csv") and item.id.lower() in _SPLITS]


def _videos(tree: Tree, names: set[str]) -> dict[tuple[str, str], Path]:
    """Files of utterances, by video and name."""
    found: dict[tuple[str, str], Path] = {}
    for parent in tree.upper_folders:
        for video in names.intersection(tree.folders(parent)):
            for item in tree.files(f"{parent}/{video}".lstrip("/")):
                if PurePosixPath(item.name).suffix.lower() in VIDEO_SUFFIXES:
                    found.setdefault((video, item.id), item.path)
    return found
