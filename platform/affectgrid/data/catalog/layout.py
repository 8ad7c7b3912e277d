"""Where videos, crops and labels lie under a root: releases of Aff-Wild2, and their users, name folders differently."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Literal

from affectgrid.data.catalog.tree import Item, Tree, file_size
from affectgrid.errors import Problem

SplitName = Literal["train", "validation", "test"]
Labels = Literal["required", "expected", "optional"]

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv"})
MAX_DEPTH = 4  # folders below the root that are looked into
_MAX_FOLDERS = 64  # a folder with more of them holds a folder per track, and is not searched
_NUM_LISTINGS = 16  # at a time: in a bucket each waits for the network
_VIDEOS = re.compile(r"(raw_?)?(videos?|vids)|batch_?\d*|new_?vids")
_SPLITS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}
_LABEL_FOLDERS = f"folders Train_Set and Validation_Set, in any case, at most {MAX_DEPTH} folders below"
_OTHER_TASKS = frozenset({"expr", "expression", "expressions", "au", "aus", "mtl", "action", "emotion"})


@dataclasses.dataclass(frozen=True)
class Folder:
    """One folder that was looked into.

    Args:
        name: under the root, with slashes; empty for the root.
        files: directly in it.
        folders: names of those directly in it.
    """

    name: str
    files: tuple[Item, ...]
    folders: tuple[str, ...]

    def with_suffix(self, suffixes: Iterable[str]) -> tuple[Item, ...]:
        """Its files of these suffixes, in any case."""
        return tuple(item for item in self.files if PurePosixPath(item.name).suffix.lower() in suffixes)


@dataclasses.dataclass(frozen=True)
class Layout:
    """What was found, as names of folders.

    Args:
        videos: that hold videos.
        crops: that hold a folder or an archive per track.
        labels: with the split whose labels they hold.
        rivals: other folders of a split's labels whose files differ from those of the first.
        seen: every folder that was looked into.
    """

    videos: tuple[Folder, ...]
    crops: tuple[str, ...]
    labels: tuple[tuple[Folder, SplitName], ...]
    rivals: tuple[tuple[Folder, Folder], ...]
    seen: tuple[Folder, ...]

    @property
    def is_aff_wild2(self) -> bool:
        """Whether there is more than videos in one folder."""
        return bool(self.crops or self.labels or any(folder.name for folder in self.videos))

    def label_faults(self, root: Path | str, tracks: Collection[str], labels: Labels) -> Iterator[Problem]:
        """Folders of labels that are missing or there twice (CAT-LABELS); `tracks` are ids of videos and crops.

        Where none is found: ``required`` refuses, ``expected`` if text files are named as tracks, ``optional`` never.
        """
        for first, other in self.rivals:
            yield Problem(
                "CAT-LABELS",
                where=str(root),
                found=f"{first.name} and {other.name}, with other files",
                expected="one folder of labels for a split",
                hint="move one of them out of this folder",
            )
        stray = [f.name or "." for f in self.seen if any(item.id in tracks for item in f.with_suffix({".txt"}))]
        if tracks and not self.labels and (labels == "required" or (labels == "expected" and stray)):
            named = f"text files named as tracks in {', '.join(stray)}; " if stray else ""
            yield Problem(
                "CAT-LABELS",
                where=str(root),
                found=f"no folder of labels, but {named}{self.contents()}",
                expected=f"{_LABEL_FOLDERS}, with a .txt file per track",
                hint="rename the folders so, or point to the folder above; labels of EXPR and AU are not read",
            )

    def contents(self, limit: int = 8) -> str:
        """What the folders hold, for a message: ``labels/: 12 .txt; raw/: 3 .mp4``."""
        told = [f"{folder.name or '.'}/: {_counts(folder)}" for folder in self.seen if folder.files or folder.folders]
        more = f"; ... {len(told)} folders in all" if len(told) > limit else ""
        return "; ".join(told[:limit]) + more if told else "nothing"


def find_layout(tree: Tree) -> Layout:
    """Look for folders by their names, in any case and under any parents down to ``MAX_DEPTH``; nothing is read.

    Videos: ``videos``, ``batch1``, ``new_vids`` and the like, and the root; only where none of these holds one, any
    folder. Crops: ``cropped_aligned``, ``cropped_aligned_new_50_vids``, ``crops2`` and all that begin so. Labels:
    ``Train_Set``, ``Training_Set``, ``Validation_Set`` and the like, but not those of expressions and action units;
    those of ``VA_Estimation_Challenge`` come before the older ``VA_Set``, and these before others.
    """
    folders, crops = _walk(tree)
    videos = [folder for folder in folders if folder.with_suffix(VIDEO_SUFFIXES)]
    named = [folder for folder in videos if not folder.name or any(_VIDEOS.fullmatch(p) for p in _parts(folder.name))]
    labels, rivals = _labels(folders)
    return Layout(tuple(named or videos), tuple(crops), labels, rivals, tuple(folders))


def _walk(tree: Tree) -> tuple[list[Folder], list[str]]:
    """Folders that are not of crops, and the folders of crops; each level by name."""
    found: list[Folder] = []
    crops: list[str] = []
    level = [""]
    with ThreadPoolExecutor(_NUM_LISTINGS) as pool:
        for _ in range(MAX_DEPTH + 1):
            listed = list(pool.map(lambda name: _list(tree, name), level))
            found += [folder for folder in listed if not _is_crops(folder.name)]
            crops += [folder.name for folder in listed if _is_crops(folder.name)]
            level = [below for folder in listed for below in _below(folder)]
    return found, crops


def _list(tree: Tree, name: str) -> Folder:
    # files of crops are archives, which `Tree.crops` lists
    return Folder(name, () if _is_crops(name) else tuple(tree.files(name)), tuple(tree.folders(name)))


def _below(folder: Folder) -> Iterator[str]:
    """The folders to look into next: in a folder of crops only those that group tracks."""
    prefix = f"{folder.name}/" if folder.name else ""
    for name in folder.folders:
        grouping = name.lower().startswith("crop") or _VIDEOS.fullmatch(name.lower()) or _split(name)
        if grouping or not (_is_crops(folder.name) or name.startswith(".") or len(folder.folders) > _MAX_FOLDERS):
            yield prefix + name


def _is_crops(name: str) -> bool:
    return any(part.startswith("crop") for part in _parts(name))


def _parts(name: str) -> list[str]:
    return [part.lower() for part in name.split("/")]


def _split(name: str) -> SplitName | None:
    """The split that a folder's name says: Train_Set, training set, val, ..."""
    return _SPLITS.get(re.sub(r"[\s_-]*set$", "", name.lower()))


def _labels(
    folders: Iterable[Folder],
) -> tuple[tuple[tuple[Folder, SplitName], ...], tuple[tuple[Folder, Folder], ...]]:
    """The best folder of each split, and folders that are as good but hold other files."""
    ranked: dict[int, dict[SplitName, list[Folder]]] = {}
    for folder in folders:
        split, rank = _split(PurePosixPath(folder.name).name), _rank(folder.name)
        if split and rank is not None and folder.with_suffix({".txt"}):
            ranked.setdefault(rank, {}).setdefault(split, []).append(folder)
    if not ranked:
        return (), ()
    best = ranked[min(ranked)]
    chosen = tuple((found[0], split) for split, found in best.items())
    rivals = [(found[0], other) for found in best.values() for other in found[1:] if _sizes(other) != _sizes(found[0])]
    return chosen, tuple(rivals)


def _rank(name: str) -> int | None:
    """Which labels are preferred, by their parents' names; None for those of another task."""
    words = {word for part in _parts(name) for word in re.findall(r"[a-z]+", part)}
    if "va" in words:
        return 0 if {"estimation", "challenge"} <= words else 1
    return None if words & _OTHER_TASKS else 2


def _sizes(folder: Folder) -> dict[str, int]:
    """By track id; -1 for a link that leads nowhere, which is told when it is read."""
    sizes = {}
    for item in folder.with_suffix({".txt"}):
        try:
            sizes[item.id] = file_size(item.path)
        except OSError:
            sizes[item.id] = -1
    return sizes


def _counts(folder: Folder) -> str:
    suffixes = Counter(PurePosixPath(item.name).suffix.lower() or "other" for item in folder.files)
    told = [f"{count} {suffix}" for suffix, count in suffixes.most_common(3)]
    return ", ".join([*told, *([f"{len(folder.folders)} folders"] if folder.folders else [])])
