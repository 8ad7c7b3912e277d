"""What is in a data set: facts of each track as `validate` meets them, and their sums as a data card."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectgrid.data.annotations import Annotation
from affectgrid.data.catalog import Catalog, Track
from affectgrid.data.leakage import Look

_EDGES = (-1 / 3, 1 / 3)  # of the 3x3 grid's regions on each axis


@dataclasses.dataclass(frozen=True)
class TrackFacts:
    """One track.

    Args:
        track: its files.
        labels: None without any, or where they cannot be read.
        num_frames, rate_hz, duration_s: of its video; 0 without one that can be read.
        num_crops: face crops, one for each frame with a face.
        look: what the video looks like, or the crops without one; None where nothing was decoded.
    """

    track: Track
    labels: Annotation | None
    num_frames: int
    rate_hz: float
    duration_s: float
    num_crops: int
    look: Look | None = None

    @property
    def face_share(self) -> float | None:
        """Share of the frames that have a face crop; None without crops."""
        frames = self.num_frames or (self.labels.num_frames if self.labels else 0)
        return min(self.num_crops / frames, 1.0) if self.track.crops and frames else None

    @property
    def va(self) -> NDArray[np.float32]:
        """The labels that count [frame, 2]."""
        return np.zeros((0, 2), np.float32) if self.labels is None else self.labels.va[self.labels.valid]


def regions_of(va: NDArray[np.float32]) -> NDArray[np.int64]:
    """The region of each label in the 3x3 grid, row by row: arousal from high to low, valence from low to high."""
    valence, arousal = np.digitize(va[:, 0], _EDGES), np.digitize(va[:, 1], _EDGES)
    return np.asarray((2 - arousal) * 3 + valence, dtype=np.int64)


def region_counts(va: NDArray[np.float32]) -> NDArray[np.int64]:
    """Labels in each region of the 3x3 grid [arousal from high to low, valence from low to high]."""
    return np.bincount(regions_of(va), minlength=9).reshape(3, 3)


def looks_of(facts: Sequence[TrackFacts]) -> dict[str, Look]:
    """What was looked at, by the first track of each recording that has it."""
    looks: dict[str, Look] = {}
    recordings: set[str] = set()
    for one in facts:
        if one.look is not None and one.track.recording not in recordings:
            looks[one.track.id] = one.look
            recordings.add(one.track.recording)
    return looks


def data_card(catalog: Catalog, facts: Sequence[TrackFacts]) -> dict[str, Any]:
    """Counts by split, and the fingerprint of labels, ids and videos; plain values, ready for JSON."""
    splits = {}
    for name in sorted({track.split for track in catalog.tracks}):
        own = [one for one in facts if one.track.split == name]
        labels = [one.labels for one in own if one.labels is not None]
        va = np.concatenate([np.zeros((0, 2), np.float32), *(one.va for one in own)])
        rates = [one.rate_hz for one in own if one.rate_hz]
        splits[name] = {
            "tracks": len(own),
            "raw_videos": len({one.track.recording for one in own}),
            "hours": round(sum(one.duration_s for one in own) / 3600, 3),
            "frames": sum(one.num_frames for one in own),
            "labels": sum(one.num_frames for one in labels),
            "masked": int(sum(np.count_nonzero(~one.valid) for one in labels)),
            "crops": sum(one.num_crops for one in own),
            "rate_hz": [round(min(rates), 3), round(max(rates), 3)] if rates else [],
            "regions_3x3": region_counts(va).tolist(),
        }
    return {"root": str(catalog.root), "fingerprint": catalog.digest()[:16], "splits": splits}
