"""Folds for cross-validation: whole groups of tracks, with the regions of the plane shared out evenly."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectgrid.data.splits.resident import Split, StreamRows
from affectgrid.errors import ConfigError, Problem

_HIDDEN = 0.1  # largest share of a group's frames that does not count: the shares of 200 videos stay even to 1 %


def make_folds(
    groups: Sequence[Hashable], regions: Sequence[NDArray[np.int64]], num_folds: int, seed: int
) -> tuple[int, ...]:
    """The fold, from 0, of every track. Tracks of one group are in one fold; the same seed gives the same folds.

    `regions` holds for every track the region of each labelled frame: a fold has about the same share of each, as
    scikit-learn's StratifiedGroupKFold has it. That one deals out groups from the most uneven to the least, whatever
    its seed; so it is shown a random part of each group's frames, and another seed deals otherwise.
    Raises ConfigError (CFG-FOLDS) for fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second, and few runs need it

    number = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    if len(number) < num_folds:
        found, expected = f"{len(number)} raw videos", f"at least {num_folds}, one for each fold"
        raise ConfigError(Problem("CFG-FOLDS", where="folds", found=found, expected=expected, hint="ask for fewer"))
    random = np.random.default_rng(seed)
    shares = random.uniform(1 - _HIDDEN, 1, len(number))
    shown = [
        own[(random.random(len(own)) < shares[number[group]]) | (np.arange(len(own)) == 0)]
        for group, own in zip(groups, regions, strict=True)
    ]
    labels = np.concatenate(shown) if len(shown) else np.zeros(0, np.int64)
    members = np.repeat([number[group] for group in groups], [len(own) for own in shown])
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    folds = np.full(len(number), -1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (_, held_out) in enumerate(splitter.split(labels, labels, members)):
            folds[np.unique(members[held_out])] = fold
    for group in np.flatnonzero(folds < 0):  # without a labelled frame
        folds[group] = group % num_folds
    return tuple(int(folds[number[group]]) for group in groups)


@dataclasses.dataclass(frozen=True, eq=False)
class Part(Split):
    """Consecutive tracks of a split, as views: no feature is copied. It pickles as the whole split and two numbers.

    Args:
        whole: the split.
        first, last: its tracks first, ..., last - 1.
    """

    whole: Split
    first: int
    last: int

    @classmethod
    def of(cls, whole: Split, first: int, last: int, name: str) -> Part:
        """Those tracks, as a split of that name."""
        begin, end = int(whole.offsets[first]), int(whole.offsets[last])
        streams = {
            stream: StreamRows(own.feature[begin:end], own.present[begin:end]) for stream, own in whole.streams.items()
        }
        rows: dict[str, Any] = {
            field: getattr(whole, field)[begin:end] for field in ("frame_index", "time_s", "va", "labelled")
        }
        return cls(
            name=name,
            track_ids=whole.track_ids[first:last],
            recordings=whole.recordings[first:last],
            offsets=whole.offsets[first : last + 1] - begin,
            streams=streams,
            encoders=whole.encoders,
            whole=whole,
            first=first,
            last=last,
            **rows,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Part.of, (self.whole, self.first, self.last, self.name)


@dataclasses.dataclass(frozen=True)
class Folds:
    """A split that holds the tracks of all folds, and most of them twice: what is learnt from is then one stretch.

    Args:
        fold_of: the fold of every track, by its id.
        num_folds: how many there are.
    """

    fold_of: Mapping[str, int]
    num_folds: int

    def order(self, tracks: Sequence[str]) -> list[int]:
        """The places in `tracks` of those that the split has: folds 0, 1, ..., k - 1, 0, ..., k - 2."""
        blocks: list[list[int]] = [[] for _ in range(self.num_folds)]
        for place, track in enumerate(tracks):
            blocks[self.fold_of[track]].append(place)
        return [place for block in (*blocks, *blocks[:-1]) for place in block]

    def parts(self, whole: Split, fold: int) -> tuple[Part, Part]:
        """What the fold's model learns from, and what it is scored on. `whole` has its tracks in `order`."""
        sizes = [0] * self.num_folds
        for track in dict.fromkeys(whole.track_ids):
            sizes[self.fold_of[track]] += 1
        starts = np.cumsum([0, *sizes, *sizes[:-1]])
        held_out = Part.of(whole, int(starts[fold]), int(starts[fold + 1]), "validation")
        return Part.of(whole, int(starts[fold + 1]), int(starts[fold + self.num_folds]), "train"), held_out
