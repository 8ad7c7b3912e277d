"""The tracks of a data set, and the files that belong to each."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal

from affectgrid.data.tree import Item, Tree, file_size
from affectgrid.errors import CatalogError, Problem
from affectgrid.media.faces import Person
from affectgrid.storage import Storage, staged

SplitName = Literal["train", "validation", "test"]

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv"})
_SECOND_PERSON = re.compile(r"(.+)_(?:left|right)")
_VIDEO_FOLDERS = ("videos", "batch1", "batch2", "batch3", "new_vids", "")
_CROP_FOLDERS = ("cropped_aligned", "cropped_aligned_images/cropped_aligned")
_LABEL_FOLDERS = ("VA_Estimation_Challenge", "annotations/VA_Estimation_Challenge", "annotations/VA_Set", "VA_Set")
_SPLIT_FOLDERS: dict[str, SplitName] = {
    "Train_Set": "train",
    "Training_Set": "train",
    "Validation_Set": "validation",
}


def raw_video(track: str) -> str:
    """The video that a track's id names: two people of one video are ``<video>_left`` and ``<video>_right``."""
    person = _SECOND_PERSON.fullmatch(track)
    return person[1] if person else track


@dataclasses.dataclass(frozen=True)
class Track:
    """One person in one video.

    Args:
        id: unique, safe as a file name.
        split: train, validation or test.
        video: the raw video, shared by ``<id>_left`` and ``<id>_right``.
        crops: folder of face crops by frame index.
        annotation: labels; None in the test split and for prediction.
    """

    id: str
    split: SplitName
    video: Path | None
    crops: Path | None
    annotation: Path | None

    @property
    def person(self) -> Person:
        """Which face of the raw video is meant, where the id says so."""
        if self.video is None or self.video.stem == self.id:
            return "largest"
        return "left" if self.id.endswith("_left") else "right"


@dataclasses.dataclass(frozen=True)
class Catalog:
    """Tracks under a root, sorted by id. Ids are unique within a split; ``validate`` reports one in two splits.

    `root` is a folder, or an address without credentials.
    """

    root: Path | str
    tracks: tuple[Track, ...]

    def split(self, name: str) -> tuple[Track, ...]:
        """Tracks of a split, sorted by id."""
        return tuple(track for track in self.tracks if track.split == name)

    def digest(self) -> str:
        """sha256 over ids, splits, the annotations' bytes and the videos' sizes; independent of folders and dates."""
        digest = hashlib.sha256()
        for track in self.tracks:
            size = file_size(track.video) if track.video else -1
            labels = "-"
            if track.annotation:
                with staged(track.annotation) as path:
                    labels = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{track.id}\0{track.split}\0{size}\0{labels}\n".encode())
        return digest.hexdigest()


def read_aff_wild2(place: Path | str | Storage) -> Catalog:
    """Find the tracks of a folder, or of a folder in a bucket, in Aff-Wild2's layout.

    Videos in ``videos/``, ``batch1/``, ``batch2/`` or the root; crops in ``cropped_aligned/<track>/`` or an archive
    ``<track>.tar`` or ``.zip``; labels in ``VA_Estimation_Challenge/{Train_Set,Validation_Set}`` or the older
    ``annotations/VA_Set/...``. Crops or videos without labels are the test split. A file in a bucket or in an archive
    has a path that `storage.staged` makes readable; only labels are fetched here. Raises CatalogError with all
    problems at once: CAT-ROOT, CAT-EMPTY, CAT-NAME, CAT-LINK, CAT-FOLD, CAT-DUPLICATE; and StoreError.
    """
    problems: list[Problem] = []
    tree = Tree(_require_folder(place))
    videos = _by_id(tree, _videos(tree, _VIDEO_FOLDERS), problems)
    crops = _by_id(tree, [item for folder in _CROP_FOLDERS for item in tree.crops(folder)], problems)
    labels: list[tuple[str, SplitName, Path]] = []
    for folder, split in _label_folders(tree):
        found = _by_id(tree, [item for item in tree.files(folder) if item.name.endswith(".txt")], problems)
        labels.extend((name, split, path) for name, path in found.items())
    tracks = [Track(i, split, _video_of(i, videos), crops.get(i), path) for i, split, path in labels]
    labelled = {track.id for track in tracks}
    used = {track.video for track in tracks}
    tracks += [Track(i, "test", _video_of(i, videos), crops[i], None) for i in crops if i not in labelled]
    used |= {track.video for track in tracks}
    tracks += [Track(i, "test", path, None, None) for i, path in videos.items() if path not in used]
    catalog = _catalog(tree.root, tracks, problems)
    tree.fetch([path for _, _, path in labels])
    return catalog


def read_folder(place: Path | str | Storage) -> Catalog:
    """Videos without labels, for prediction: the videos of a folder, or one video. All are in the test split.

    Raises CatalogError as ``read_aff_wild2`` does.
    """
    problems: list[Problem] = []
    storage = Storage(place)
    above, name = storage.split()
    if storage.path.is_file() if storage.path else PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES:
        tree = Tree(above)
        videos = {item.id: item.path for item in tree.files("") if item.name == name}
    else:
        tree = Tree(_require_folder(storage))
        videos = _by_id(tree, _videos(tree, [""]), problems)
    return _catalog(tree.root, [Track(i, "test", path, None, None) for i, path in videos.items()], problems)


def _catalog(root: Path | str, tracks: Iterable[Track], problems: list[Problem]) -> Catalog:
    ordered = tuple(sorted(tracks, key=lambda track: (track.id, track.split)))
    folded: dict[str, set[str]] = defaultdict(set)
    for track in ordered:
        # names that a file system which ignores case or Unicode normalisation would take for one
        folded[unicodedata.normalize("NFC", track.id).casefold()].add(track.id)
        if fault := _name_fault(track.id):
            problems.append(
                Problem(
                    "CAT-NAME",
                    where=repr(track.id),
                    found=fault,
                    expected="a plain file name",
                    hint="rename the video and its labels",
                )
            )
    for names in folded.values():
        if len(names) > 1:
            found = " and ".join(repr(name) for name in sorted(names))
            problems.append(
                Problem(
                    "CAT-FOLD",
                    where=str(root),
                    found=found,
                    expected="ids that differ in more than case",
                    hint="rename one",
                )
            )
    if not ordered and not problems:
        expected = "videos/, cropped_aligned/ or VA_Estimation_Challenge/"
        problems.append(
            Problem(
                "CAT-EMPTY",
                where=str(root),
                found="no track",
                expected=expected,
                hint="point to the data set's top folder",
            )
        )
    if problems:
        raise CatalogError(*problems)
    return Catalog(root, ordered)


def _name_fault(name: str) -> str | None:
    if name in {"", ".", ".."} or name.startswith("."):
        return "empty, or begins with a dot"
    if any(unicodedata.category(char) in {"Cc", "Cs"} or char in '/\\:*?"<>|' for char in name):
        return 'holds a control character or one of / \\ : * ? " < > |'
    return "longer than 200 bytes" if len(name.encode()) > 200 else None


def _require_folder(place: Path | str | Storage) -> Storage:
    storage = Storage(place)
    there = storage.exists() if storage.path is None else "\0" not in storage.uri and storage.path.is_dir()
    if not there:
        raise CatalogError(
            Problem(
                "CAT-ROOT",
                where=repr(storage.address),
                found="no such folder",
                expected="the data set's top folder",
                hint="check the path",
            )
        )
    return storage if storage.path is None else Storage(storage.path.resolve())


def _videos(tree: Tree, folders: Iterable[str]) -> list[Item]:
    items = [item for folder in folders for item in tree.files(folder)]
    return [item for item in items if PurePosixPath(item.name).suffix.lower() in VIDEO_SUFFIXES]


def _label_folders(tree: Tree) -> list[tuple[str, SplitName]]:
    """The newest layout that is present: a data set may ship both, and their files are the same."""
    for name in _LABEL_FOLDERS:
        there = tree.folders(name)
        found = [(f"{name}/{sub}", split) for sub, split in _SPLIT_FOLDERS.items() if sub in there]
        if found:
            return found
    return []


def _by_id(tree: Tree, items: Iterable[Item], problems: list[Problem]) -> dict[str, Path]:
    """Paths by track id; links that leave the root, and two files of one id, become problems."""
    found: dict[str, Item] = {}
    for item in items:
        if outside := tree.outside(item):
            problems.append(
                Problem(
                    "CAT-LINK",
                    where=tree.storage.show(item.name),
                    found=f"a link to {outside}",
                    expected=f"files under {tree.root}",
                    hint="copy the file there",
                )
            )
        elif item.id in found:
            problems.append(
                Problem(
                    "CAT-DUPLICATE",
                    where=str(tree.root),
                    found=f"{found[item.id].name} and {item.name}",
                    expected=f"one file for {item.id!r}",
                    hint="remove one",
                )
            )
        else:
            found[item.id] = item
    return {name: item.path for name, item in found.items()}


def _video_of(name: str, videos: dict[str, Path]) -> Path | None:
    if name in videos:
        return videos[name]
    match = _SECOND_PERSON.fullmatch(name)
    return videos.get(match[1]) if match else None
