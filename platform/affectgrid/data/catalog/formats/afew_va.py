"""AFEW-VA: a folder per clip with pictures 00000.png, ... and <clip>.json, which labels each from -10 to 10.

    001/001.json    {"video_id": "001", "actor": "...", "frames": {"00000": {"valence": 2.0, "arousal": -1.0, ...}}}
    001/00000.png   a whole frame

There may be folders between, such as those of the archives 01 to 12. The set has no splits of its own.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from affectgrid.data.annotations import read_text
from affectgrid.data.catalog.formats.rows import LabelReader
from affectgrid.data.catalog.points import Course, LabelPoints, Points, Scale, refuse
from affectgrid.data.catalog.reading import by_id, make_catalog
from affectgrid.data.catalog.tracks import Catalog, Track
from affectgrid.data.catalog.tree import Item, Tree
from affectgrid.errors import AnnotationError, Problem

SCALE = Scale(-10, 10)
_CLIP = re.compile(r"\d{3,}")


def recognise(tree: Tree) -> bool:
    """Whether a folder with a number for its name has a JSON file of that name: one is looked at."""
    first = next(_clips(tree), None)
    return first is not None and _annotation(tree, first) is not None


def read(tree: Tree) -> Catalog:
    """Every clip is in the training split; the actor is the track's subject."""
    problems: list[Problem] = []
    parents = sorted({str(PurePosixPath(folder).parent) for folder in _clips(tree)})
    pictures = [item for parent in parents for item in tree.crops("" if parent == "." else parent)]
    clips = by_id(tree, [item for item in pictures if _CLIP.fullmatch(item.id)], problems)
    files = {name: item for folder in _clips(tree) if (item := _annotation(tree, folder)) for name in [item.id]}
    tree.fetch(item.path for item in files.values())
    tracks = [Track(name, "test", None, folder, None) for name, folder in clips.items() if name not in files]
    for name in clips.keys() & files.keys():
        labels = LabelPoints(files[name].path, read_points=read_points, valence_scale=SCALE, arousal_scale=SCALE)
        tracks.append(Track(name, "train", None, clips[name], labels, subject=_actor(labels)))
    return make_catalog(tree.root, tracks, problems)


def read_points(source: LabelPoints) -> Points:
    """Labels of one clip. Raises AnnotationError: ANN-JSON, ANN-COLUMNS, and as ``LabelReader.label``."""
    frames = _content(source).get("frames")
    if not isinstance(frames, dict) or not all(name.isascii() and name.isdigit() for name in frames):
        refuse(source.path, "ANN-JSON", "no labels of frames", '"frames": {"00000": {...}, ...}', "download it again")
    reader, rows = LabelReader(source), []
    for name, frame in sorted(frames.items(), key=lambda item: int(item[0])):
        if not isinstance(frame, dict) or not {"valence", "arousal"} <= frame.keys():
            found, expected = f"frame {name} without a label", "valence and arousal"
            refuse(source.path, "ANN-COLUMNS", found, expected, "correct this frame")
        both = (reader.label(source.path, f"frames.{name}", str(frame[axis]), SCALE) for axis in ("valence", "arousal"))
        rows.append((int(name) + 1, *both))  # its frames count from 0
    at, valence, arousal = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return Points(Course(at, valence), Course(at, arousal), "frames", reader.odd)


def _clips(tree: Tree) -> Iterator[str]:
    """Folders of clips, wherever they lie."""
    for parent in tree.upper_folders:
        if not _CLIP.fullmatch(PurePosixPath(parent).name):
            yield from (f"{parent}/{name}".lstrip("/") for name in tree.folders(parent) if _CLIP.fullmatch(name))


def _annotation(tree: Tree, folder: str) -> Item | None:
    name = f"{PurePosixPath(folder).name}.json"
    return next((item for item in tree.files(folder) if PurePosixPath(item.name).name == name), None)


def _content(source: LabelPoints) -> dict[str, Any]:
    try:
        content = json.loads(read_text(source.path))
    except (ValueError, RecursionError) as error:
        refuse(source.path, "ANN-JSON", str(error), "a JSON file", "download it again")
    return content if isinstance(content, dict) else {}


def _actor(source: LabelPoints) -> str:
    """Empty where the file does not say it, or cannot be read: that is told when its labels are."""
    with contextlib.suppress(AnnotationError):
        return str(_content(source).get("actor") or "")
    return ""
