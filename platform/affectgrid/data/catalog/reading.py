"""What every format shares: videos and crops by track, and the checks of a catalog, with every problem at once."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from affectgrid.data.annotations import LabelFile
from affectgrid.data.catalog.layout import VIDEO_SUFFIXES, Layout, SplitName
from affectgrid.data.catalog.tracks import Catalog, Track, raw_video
from affectgrid.data.catalog.tree import Item, Tree, same_content
from affectgrid.errors import CatalogError, MediaError, Problem
from affectgrid.storage import Storage


@dataclasses.dataclass(frozen=True)
class Media:
    """Videos and crops of a data set: paths by id, which is a file's name."""

    videos: Mapping[str, Path]
    crops: Mapping[str, Path]

    @classmethod
    def find(cls, tree: Tree, layout: Layout, problems: list[Problem]) -> Media:
        """Those in the folders that a layout has found; what is wrong with them is added to the problems."""
        files = [item for folder in layout.videos for item in folder.with_suffix(VIDEO_SUFFIXES)]
        videos = by_id(tree, files, problems)
        cut = [item for name in layout.crops for item in tree.crops(name) if item.name not in layout.crops]
        return cls(videos, by_id(tree, cut, problems))

    def track(
        self,
        name: str,
        split: SplitName,
        annotation: Path | LabelFile | None,
        *,
        source: str = "",
        subject: str = "",
    ) -> Track:
        """A track with its video and its crops. A video of that very name wins over one that two people share."""
        video = self.videos.get(name) or self.videos.get(raw_video(name))
        return Track(name, split, video, self.crops.get(name), annotation, source, subject)

    def without_labels(self, labelled: Collection[Track]) -> list[Track]:
        """The test split: crops of which no track is labelled, and videos that no track uses."""
        known = {track.id for track in labelled}
        cut = [self.track(name, "test", None) for name in self.crops if name not in known]
        used = {track.video for track in (*labelled, *cut)}
        return [
            *cut,
            *(Track(name, "test", path, None, None) for name, path in self.videos.items() if path not in used),
        ]


def read_folder(place: Path | str | Storage) -> Catalog:
    """Videos without labels, for prediction: the videos of a folder, or one video. All are in the test split.

    Raises CatalogError as ``formats.aff_wild2.read_aff_wild2`` does.
    """
    problems: list[Problem] = []
    storage = Storage(place)
    above, name = storage.split()
    if storage.path.is_file() if storage.path else PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES:
        tree = Tree(above)
        videos = {item.id: item.path for item in tree.files("") if item.name == name}
    else:
        tree = Tree(require_folder(storage))
        items = [item for item in tree.files("") if PurePosixPath(item.name).suffix.lower() in VIDEO_SUFFIXES]
        videos = by_id(tree, items, problems)
    return make_catalog(tree.root, [Track(i, "test", path, None, None) for i, path in videos.items()], problems)


def make_catalog(
    root: Path | str, tracks: Iterable[Track], problems: list[Problem], layout: Layout | None = None
) -> Catalog:
    """The catalog, unless there are errors among the problems, its own included: CAT-NAME, CAT-FOLD, CAT-EMPTY."""
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


def pair_dimensions(
    root: Path | str, valence: Mapping[str, Path], arousal: Mapping[str, Path], problems: list[Problem]
) -> dict[str, tuple[Path, Path]]:
    """Files of valence and of arousal, by track; a track with only one of them is a problem (CAT-PAIR)."""
    for name in sorted(valence.keys() ^ arousal.keys()):
        there, lacking = ("valence", "arousal") if name in valence else ("arousal", "valence")
        found, hint = f"{name!r} has {there}, but no {lacking}", "restore the file, or remove the other"
        problems.append(Problem("CAT-PAIR", where=str(root), found=found, expected="a file of each", hint=hint))
    return {name: (valence[name], arousal[name]) for name in sorted(valence.keys() & arousal.keys())}


def _name_fault(name: str) -> str | None:
    if name in {"", ".", ".."} or name.startswith("."):
        return "empty, or begins with a dot"
    if any(unicodedata.category(char) in {"Cc", "Cs"} or char in '/\\:*?"<>|' for char in name):
        return 'holds a control character or one of / \\ : * ? " < > |'
    return "longer than 200 bytes" if len(name.encode()) > 200 else None


def require_folder(place: Path | str | Storage) -> Storage:
    """A place that is there. Raises CatalogError (CAT-ROOT)."""
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


def by_id(tree: Tree, items: Iterable[Item], problems: list[Problem]) -> dict[str, Path]:
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
