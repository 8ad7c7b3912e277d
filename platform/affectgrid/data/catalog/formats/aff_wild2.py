"""Aff-Wild2 as the challenges ABAW 2 to 10 shipped it: a text file per track, a line per frame; and bare videos."""

from __future__ import annotations

from pathlib import Path

from affectgrid.data.catalog.layout import Labels, find_layout
from affectgrid.data.catalog.reading import Media, by_id, make_catalog, require_folder
from affectgrid.data.catalog.tracks import Catalog
from affectgrid.data.catalog.tree import Tree
from affectgrid.errors import Problem
from affectgrid.storage import Storage


def recognise(tree: Tree) -> bool:
    """Whether there are folders of labels."""
    return bool(find_layout(tree).labels)


def read(tree: Tree) -> Catalog:
    """As ``read_aff_wild2``."""
    return _read(tree, "expected")


def read_aff_wild2(place: Path | str | Storage, *, labels: Labels = "expected") -> Catalog:
    """Find the tracks of a folder, or of a folder in a bucket, in any of Aff-Wild2's layouts: see ``find_layout``.

    Crops are a folder ``<track>/`` or an archive ``<track>.tar`` or ``.zip``; those of all folders of crops are merged.
    Crops or videos without labels are the test split. A file in a bucket or in an archive has a path that
    `storage.staged` makes readable; only labels are fetched here. Where no folder of labels is found, ``required``
    refuses, ``expected`` does where text files are named as tracks, ``optional`` never. Raises CatalogError with all
    problems at once: CAT-ROOT, CAT-EMPTY, CAT-LABELS, CAT-NAME, CAT-LINK, CAT-FOLD, CAT-DUPLICATE (two files of one
    track that differ; equal ones are read, byte by byte, and become a note); and StoreError.
    """
    return _read(Tree(require_folder(place)), labels)


def is_aff_wild2(place: Path | str | Storage) -> bool:
    """Whether a place holds more than videos in one folder: crops, labels, or folders of videos."""
    storage = Storage(place)
    if storage.path is not None and not storage.path.is_dir():
        return False
    return find_layout(Tree(storage)).is_aff_wild2


def _read(tree: Tree, labels: Labels) -> Catalog:
    problems: list[Problem] = []
    layout = find_layout(tree)
    media = Media.find(tree, layout, problems)
    tracks = []
    for folder, split in layout.labels:
        files = by_id(tree, folder.with_suffix({".txt"}), problems)
        tracks += [media.track(name, split, path) for name, path in files.items()]
    paths = [track.labels.path for track in tracks if track.labels]
    problems += layout.label_faults(tree.root, {*media.videos, *media.crops}, labels)
    catalog = make_catalog(tree.root, [*tracks, *media.without_labels(tracks)], problems, layout)
    tree.fetch(paths)
    return catalog
