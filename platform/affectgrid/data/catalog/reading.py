"""Read a data set's folders into a catalog, with every problem at once."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from affectgrid.data.catalog.layout import VIDEO_SUFFIXES, Labels, Layout, find_layout
from affectgrid.data.catalog.tracks import Catalog, Track, raw_video
from affectgrid.data.catalog.tree import Item, Tree, same_content
from affectgrid.errors import CatalogError, MediaError, Problem
from affectgrid.storage import Storage


def read_aff_wild2(place: Path | str | Storage, *, labels: Labels = "expected") -> Catalog:
    """Find the tracks of a folder, or of a folder in a bucket, in any of Aff-Wild2's layouts: see ``find_layout``.

    Crops are a folder ``<track>/`` or an archive ``<track>.tar`` or ``.zip``; those of all folders of crops are merged.
    Crops or videos without labels are the test split. A file in a bucket or in an archive has a path that
    `storage.staged` makes readable; only labels are fetched here. Where no folder of labels is found, ``required``
    refuses, ``expected`` does where text files are named as tracks, ``optional`` never. Raises CatalogError with all
    problems at once: CAT-ROOT, CAT-EMPTY, CAT-LABELS, CAT-NAME, CAT-LINK, CAT-FOLD, CAT-DUPLICATE (two files of one
    track that differ; equal ones are read, byte by byte, and become a note); and StoreError.
    """
    problems: list[Problem] = []
    tree = Tree(_require_folder(place))
    layout = find_layout(tree)
    videos = _by_id(tree, [item for folder in layout.videos for item in folder.with_suffix(VIDEO_SUFFIXES)], problems)
    cut = [item for name in layout.crops for item in tree.crops(name) if item.name not in layout.crops]
    crops = _by_id(tree, cut, problems)
    tracks = []
    for folder, split in layout.labels:
        files = _by_id(tree, folder.with_suffix({".txt"}), problems)
        tracks += [Track(i, split, _video_of(i, videos), crops.get(i), path) for i, path in files.items()]
    paths = [track.labels.path for track in tracks if track.labels]
    labelled = {track.id for track in tracks}
    used = {track.video for track in tracks}
    tracks += [Track(i, "test", _video_of(i, videos), crops[i], None) for i in crops if i not in labelled]
    used |= {track.video for track in tracks}
    tracks += [Track(i, "test", path, None, None) for i, path in videos.items() if path not in used]
    problems += layout.label_faults(tree.root, {*videos, *crops}, labels)
    catalog = _catalog(tree.root, tracks, problems, layout)
    tree.fetch(paths)
    return catalog


def is_aff_wild2(place: Path | str | Storage) -> bool:
    """Whether a place holds more than videos in one folder: crops, labels, or folders of videos."""
    storage = Storage(place)
    if storage.path is not None and not storage.path.is_dir():
        return False
    return find_layout(Tree(storage)).is_aff_wild2


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
        items = [item for item in tree.files("") if PurePosixPath(item.name).suffix.lower() in VIDEO_SUFFIXES]
        videos = _by_id(tree, items, problems)
    return _catalog(tree.root, [Track(i, "test", path, None, None) for i, path in videos.items()], problems)


def _catalog(
    root: Path | str, tracks: Iterable[Track], problems: list[Problem], layout: Layout | None = None
) -> Catalog:
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
        problems.append(
            Problem(
                "CAT-EMPTY",
                where=str(root),
                found=f"no track, but {layout.contents()}" if layout else "no video",
                expected=f"videos ({', '.join(sorted(VIDEO_SUFFIXES))}), or folders cropped_aligned/<track>",
                hint="point to the data set's top folder, and unpack its archives",
            )
        )
    if any(problem.severity == "error" for problem in problems):
        raise CatalogError(*problems)
    return Catalog(root, ordered, tuple(problems))


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


def _by_id(tree: Tree, items: Iterable[Item], problems: list[Problem]) -> dict[str, Path]:
    """Paths by track id; links that leave the root or lead nowhere, and two files of one id, become problems."""
    found: dict[str, Item] = {}
    for item in items:
        if target := tree.bad_link(item):
            problems.append(
                Problem(
                    "CAT-LINK",
                    where=tree.storage.show(item.name),
                    found=f"a link to {target}",
                    expected=f"files under {tree.root}",
                    hint="copy the file there",
                )
            )
        elif item.id in found:
            problems.append(_twice(tree, found[item.id], item))
        else:
            found[item.id] = item
    return {name: item.path for name, item in found.items()}


def _twice(tree: Tree, first: Item, other: Item) -> Problem:
    """Two files or folders of one track, as batches that overlap have them: a warning where they are equal."""
    try:
        same = same_content(first.path, other.path)
    except (OSError, MediaError):
        same = False
    return Problem(
        "CAT-OVERLAP" if same else "CAT-DUPLICATE",
        where=str(tree.root),
        found=f"{first.name} and {other.name}, {'equal: the first is used' if same else 'which differ'}",
        expected=f"one of them for {first.id!r}",
        hint="remove one",
        severity="warning" if same else "error",
    )


def _video_of(name: str, videos: dict[str, Path]) -> Path | None:
    """A video of that very name wins over the one that two people share."""
    return videos.get(name) or videos.get(raw_video(name))
