"""The same video in two splits, by its name or by what is seen in it: validation would be of what was trained on."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from affectgrid.errors import Problem, Severity

if TYPE_CHECKING:  # `look_at` runs in a decoding process, which imports no more than it needs
    from affectgrid.data.catalog import Track

_MOMENTS = (1 / 8, 3 / 8, 5 / 8, 7 / 8)  # of the length: titles and black are at the ends
_SIDE = 16  # of the grid of a picture whose neighbours are compared
_LEAST_CONTRAST = 4.0  # standard deviation in that grid, of 255, below which a picture tells nothing
_MOST_BITS = 0.17  # share that may differ: encoding again changes up to 0.15, other faces drawn alike 0.24 and more
_LENGTH_SHARE, _LENGTH_S = 0.01, 0.5  # by how much the lengths of copies may differ


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """What a video looks like at a few moments.

    Args:
        length: in seconds; of a folder of pictures their number.
        bits: whether each cell is brighter than its left neighbour, bool [moment, cell].
        telling: whether there is anything to see, bool [moment].
    """

    length: float
    bits: NDArray[np.bool_]
    telling: NDArray[np.bool_]


def look_at(video: str | None, crops: str | None) -> Look | None:
    """A perceptual hash (dHash) of frames at fixed shares of the length; of the crops without a video. Decodes.

    None for less than four pictures. Raises MediaError.
    """
    # here, not above: what only compares looks, or reads settings, needs no decoder
    from affectgrid.media.chunks import frame_times, read_visual_chunk
    from affectgrid.media.faces.crops import list_crops, read_crop

    if video is None:
        pictures = list(list_crops(Path(crops or "")).values())
        places, length = _places(np.arange(len(pictures), dtype=np.float64)), float(len(pictures))
        shown = [read_crop(pictures[place]) for place in places]
    else:
        times = frame_times(video)
        places, length = _places(times), float(times[-1] - times[0]) if len(times) else 0.0
        shown = [
            image for place in places for image in read_visual_chunk(video, None, place, place + 1, crop="frame").images
        ]
    if len(shown) < len(_MOMENTS):
        return None
    grids = [_grid(image) for image in shown]
    bits = np.stack([(grid[:, 1:] > grid[:, :-1]).ravel() for grid in grids])
    return Look(length, bits, np.array([grid.std() >= _LEAST_CONTRAST for grid in grids]))


def _places(times: NDArray[np.float64]) -> list[int]:
    """Positions of the frames that are shown at the moments."""
    if len(times) < len(_MOMENTS):
        return []
    when = times[0] + np.array(_MOMENTS) * (times[-1] - times[0])
    return [int(place) for place in np.searchsorted(times, when, side="right") - 1]


def _grid(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Brightness in a grid of cells, one column more than rows."""
    small = Image.fromarray(image).convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64)


def copies(looks: Mapping[str, Look]) -> list[tuple[str, str]]:
    """Pairs of names whose videos look the same: equally long, and alike at most moments, of which three tell anything.

    A part of a video, or one with other borders, is not found.
    """
    found = []
    names = sorted(looks, key=lambda name: looks[name].length)
    for place, name in enumerate(names):
        one = looks[name]
        for other in names[place + 1 :]:
            if looks[other].length > one.length * (1 + _LENGTH_SHARE) + _LENGTH_S:
                break
            tells = one.telling & looks[other].telling
            differ = (one.bits != looks[other].bits).mean(axis=1)
            if tells.sum() >= len(_MOMENTS) - 1 and np.median(differ[tells]) <= _MOST_BITS:
                found.append((name, other))
    return found


def leaks_by_name(tracks: Iterable[Track]) -> Iterator[Problem]:
    """One recording, or one track id, in two splits (VAL-LEAK)."""
    users: dict[str, list[Track]] = defaultdict(list)
    for track in tracks:
        users[track.recording].append(track)
    for recording, own in sorted(users.items()):
        yield from _leak(f"video {recording}", own)


def leaks_by_content(tracks: Sequence[Track], pairs: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    """Recordings that look the same, in two splits (VAL-LEAK); a pair has the id of a track of each."""
    recording = {track.id: track.recording for track in tracks}
    for pair in pairs:
        both = sorted({recording[name] for name in pair})
        if len(both) == 2:
            where = f"videos {both[0]!r} and {both[1]!r}, which look the same"
            yield from _leak(where, [track for track in tracks if track.recording in both])


def _leak(where: str, tracks: Sequence[Track]) -> Iterator[Problem]:
    splits: dict[str, list[str]] = defaultdict(list)
    for track in tracks:
        splits[track.split].append(track.id)
    if len(splits) > 1:
        found = "; ".join(f"{split}: {', '.join(ids)}" for split, ids in sorted(splits.items()))
        # a person without labels in a training video is shared pixels, but no score is measured on it here
        severity: Severity = "error" if {"train", "validation"} <= splits.keys() else "warning"
        hint = "keep all tracks of a video in one split: --write-splits draws such splits"
        yield Problem("VAL-LEAK", where=where, found=found, expected="one split", hint=hint, severity=severity)
