"""The tracks of a data set, and the files that belong to each."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from affectgrid.data.annotations import LabelFile, OnBadLabel
from affectgrid.data.catalog.layout import SplitName
from affectgrid.data.catalog.tree import file_size
from affectgrid.errors import CatalogError, Problem, nearest
from affectgrid.media.faces import Person

_MAX_NAMED = 10
_SECOND_PERSON = re.compile(r"(.+)_(?:left|right)")


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
        source: what it was cut from, where the data set says so; several tracks may share it.
        subject: who is seen, where the data set says so.
        fold: of a cross-validation, from 0, where a file of splits says so.
    """

    id: str
    split: SplitName
    video: Path | None
    crops: Path | None
    annotation: Path | LabelFile | None
    source: str = ""
    subject: str = ""
    fold: int | None = None

    @property
    def labels(self) -> LabelFile | None:
        """The annotation, and how it is read."""
        return None if self.annotation is None else LabelFile.of(self.annotation)

    @property
    def recording(self) -> str:
        """The raw video: what is said to be, else the file, else what the id says: _left and _right share one."""
        return self.source or (self.video.stem if self.video else raw_video(self.id))

    @property
    def person(self) -> Person:
        """Which face of the raw video is meant, where the id says so."""
        shared = self.video is not None and self.video.stem != self.id and self.video.stem == raw_video(self.id)
        if not shared:
            return "largest"
        return "left" if self.id.endswith("_left") else "right"


@dataclasses.dataclass(frozen=True)
class Catalog:
    """Tracks under a root. Ids are unique within a split; ``validate`` reports one in two splits.

    Args:
        root: a folder, or an address without credentials.
        tracks: sorted by id.
        notes: warnings about what was found, such as a video that is there twice.
    """

    root: Path | str
    tracks: tuple[Track, ...]
    notes: tuple[Problem, ...] = ()

    def split(self, name: str) -> tuple[Track, ...]:
        """Tracks of a split, sorted by id."""
        return tuple(track for track in self.tracks if track.split == name)

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """Ids of tracks without labels, where others have some."""
        without = tuple(track.id for track in self.tracks if track.annotation is None)
        return without if len(without) < len(self.tracks) else ()

    def only(self, files: Sequence[Path]) -> Catalog:
        """The tracks that the files name, one a line; lines that begin with # are comments. Without a file: all.

        Raises CatalogError (CAT-TRACKS) for a file that cannot be read or names nothing, and for names that no track
        has: the first ten of them.
        """
        if not files:
            return self
        known, names, problems = {track.id for track in self.tracks}, set[str](), list[Problem]()
        for path in files:
            try:
                lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
            except (OSError, ValueError) as error:
                problems.append(_track_list(str(path), str(error), "check the path, and save it as UTF-8"))
                continue
            listed = {line: number for number, line in enumerate(lines, 1) if line and not line.startswith("#")}
            if not listed:
                problems.append(_track_list(str(path), "no name", "write one a line"))
            unknown = [name for name in listed if name not in known]
            for name in unknown[:_MAX_NAMED]:
                found = f"{name!r} is no track" + (f" ({len(unknown)} in all)" if len(unknown) > _MAX_NAMED else "")
                problems.append(_track_list(f"{path}:{listed[name]}", found, _nearest_few(name, known)))
            names |= listed.keys()
        if problems:
            raise CatalogError(*problems)
        return dataclasses.replace(self, tracks=tuple(track for track in self.tracks if track.id in names))

    def on_bad_label(self, choice: OnBadLabel) -> Catalog:
        """The same tracks, whose files of labels are refused for an odd line, or have its frame masked."""
        if choice == "refuse":
            return self
        tracks = (
            dataclasses.replace(track, annotation=track.labels and dataclasses.replace(track.labels, on_bad=choice))
            for track in self.tracks
        )
        return dataclasses.replace(self, tracks=tuple(tracks))

    def digest(self) -> str:
        """sha256 over ids, splits, labels (bytes, how they are read) and videos' sizes; not over folders and dates."""
        digest = hashlib.sha256()
        for track in self.tracks:
            size = file_size(track.video) if track.video else -1
            labels = "-"
            if source := track.labels:
                labels = hashlib.sha256(source.state()).hexdigest()
            digest.update(f"{track.id}\0{track.split}\0{size}\0{labels}\n".encode())
        return digest.hexdigest()


def _track_list(where: str, found: str, hint: str) -> Problem:
    return Problem("CAT-TRACKS", where=where, found=found, expected="names of tracks, one a line", hint=hint)


def _nearest_few(name: str, known: Collection[str]) -> str:
    """The nearest name, without listing hundreds where none is near."""
    hint = nearest(name, known)
    return hint if len(known) <= _MAX_NAMED or hint.startswith("did you") else "jobs/validate.py lists the tracks"
