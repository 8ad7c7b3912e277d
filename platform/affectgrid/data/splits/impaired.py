"""A split as a worse camera or microphone would have given it: streams gone, half the frames, noise.

They act on the features that are there, so nothing is encoded again. What the labels and times are does not change.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Collection

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from affectgrid.data.splits.resident import Split, StreamRows

SPAN_S = 2.0  # how long a face is gone and there in turn
NOISE_SDS = (0.5, 1.0)  # of each feature's own standard deviation over the split
Impairment = Callable[[Split], Split]
_GONE = {"visual": "face gone", "audio": "sound gone"}


def impairments(streams: Collection[str]) -> dict[str, Impairment]:
    """What a model that reads `streams` can be tried with, by a name for a reader. The same split gives the same."""
    found: dict[str, Impairment] = {}
    for stream in streams:
        found[_GONE.get(stream, f"{stream} gone")] = lambda split, name=stream: without(split, name)  # type: ignore[misc]
    if "visual" in streams:
        found[f"face gone every other {SPAN_S:g} s"] = without_face_in_turn
        found["picture at half the rate"] = half_rate
    for sds in NOISE_SDS:
        found[f"noise of {sds:g} sd on every feature"] = lambda split, share=sds: noisy(split, share)  # type: ignore[misc]
    return found


def without(split: Split, stream: str) -> Split:
    """The stream is absent from every frame."""
    gone = StreamRows.absent(split.num_frames, split.streams[stream].dim)
    return _replaced(split, {stream: gone})


def without_face_in_turn(split: Split) -> Split:
    """Of each track the first `SPAN_S` seconds have no face, the next ones do, and so on."""
    with np.errstate(invalid="ignore"):  # a frame that no video has is at no time, and stays as it is
        gone = np.floor(split.time_s / SPAN_S) % 2 == 0
    return _replaced(split, {"visual": _masked(split.streams["visual"], ~gone)})


def half_rate(split: Split) -> Split:
    """Every second frame of a track shows the picture, or the lack of a face, of the frame before it."""
    row = np.arange(split.num_frames)
    place = row - np.repeat(split.offsets[:-1], np.diff(split.offsets))
    held = row - place % 2
    own = split.streams["visual"]
    return _replaced(split, {"visual": StreamRows(own.feature[held], own.present[held])})


def noisy(split: Split, sds: float, *, seed: int = 0) -> Split:
    """Every feature of every stream with Gaussian noise; the noise of a track does not depend on the other tracks.

    Args:
        sds: of the noise, in standard deviations of that feature over the frames that have it.
    """
    return _replaced(split, {name: _with_noise(split, name, sds, seed) for name in split.streams})


def _with_noise(split: Split, name: str, sds: float, seed: int) -> StreamRows:
    own = split.streams[name]
    feature, spread = own.feature.copy(), sds * _spread(split, own)
    for number, track in enumerate(split.track_ids):
        rows = split.track(number)
        draw = np.random.default_rng([seed, zlib.crc32(name.encode()), zlib.crc32(track.encode())])
        noise = spread * draw.standard_normal((rows.stop - rows.start, own.dim), dtype=np.float32)
        feature[rows] += np.where(own.present[rows, None], noise, 0).astype(np.float16)
    return StreamRows(feature, own.present)


def _spread(split: Split, own: StreamRows) -> Float[NDArray[np.float32], " dim"]:
    """Standard deviations, from sums over one track at a time: the stream is too large for a copy in float64."""
    count, total, squares = 0, np.zeros(own.dim), np.zeros(own.dim)
    for number in range(split.num_tracks):
        rows = split.track(number)
        known = own.feature[rows][own.present[rows]].astype(np.float64)
        count, total, squares = count + len(known), total + known.sum(0), squares + np.square(known).sum(0)
    mean = total / max(1, count)
    return np.sqrt(np.maximum(squares / max(1, count) - mean**2, 0)).astype(np.float32)


def _masked(own: StreamRows, kept: Bool[NDArray[np.bool_], " row"]) -> StreamRows:
    present = own.present & kept
    return StreamRows(np.where(present[:, None], own.feature, np.float16(0)), present)


def _replaced(split: Split, streams: dict[str, StreamRows]) -> Split:
    return dataclasses.replace(split, streams={**split.streams, **streams})
