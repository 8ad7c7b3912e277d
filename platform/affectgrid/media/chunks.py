"""The unit of encoding: a run of frames, or of audio hops, of one track. Runs in the guarded process: no torch."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32, UInt8

from affectgrid.errors import MediaError, Problem
from affectgrid.media.audio import filter_reach_s, read_audio
from affectgrid.media.faces import DetectorName, FaceBox, FaceTracker, Person, cut_face, load_detector
from affectgrid.media.faces.crops import list_crops, read_crop
from affectgrid.media.frames import FrameReader
from affectgrid.media.sampling import Source, nearest_frames
from affectgrid.media.video import VideoInfo, probe_video

Crop = Literal["crops", "detect", "frame"]


@dataclasses.dataclass(frozen=True)
class FrameChunk:
    """Frames of a chunk. `images` holds those that are present, in order; their sizes may differ.

    `box` has the face in each frame, NaN where none was found: left, top, right, bottom in pixels, and the detector's
    score. It has no row where faces were not looked for.
    """

    frame_index: Int32[np.ndarray, "frame"]
    time_s: Float[np.ndarray, "frame"]
    present: Bool[np.ndarray, "frame"]
    images: list[UInt8[np.ndarray, "height width 3"]]
    box: Float32[np.ndarray, "looked_at 5"] = dataclasses.field(default_factory=lambda: np.zeros((0, 5), np.float32))


@dataclasses.dataclass(frozen=True)
class SoundChunk:
    """Sound of the hops of a chunk, from where the first one's window begins to where the last one's ends."""

    frame_index: Int32[np.ndarray, "hop"]
    time_s: Float[np.ndarray, "hop"]
    present: Bool[np.ndarray, "hop"]
    sound: Float[np.ndarray, "sample"]


def probe(video: str | None, crops: str | None) -> Source:
    """Look at a track's files without decoding. Raises MediaError, also when there is neither video nor crop."""
    digest = hashlib.sha256()
    listing = _crops(crops) if crops else {}
    for index, path in sorted(listing.items()):
        digest.update(f"{index}:{path.stat().st_size};".encode())
    info = _info(video) if video else None
    if video:
        with Path(video).open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    last_crop = max(listing, default=0)
    num_frames = info.num_frames if info else last_crop
    if num_frames == 0:
        where = crops or video or "track"
        raise MediaError(
            Problem(
                "MED-NOTHING",
                where=where,
                found="no frame",
                expected="a video or face crops",
                hint="add them or remove the track's annotation",
            )
        )
    duration_s = float(info.frame_times_s[-1]) if info else 0.0
    keyframes = tuple(info.keyframes.tolist()) if info and info.in_time_order else ()
    return Source(num_frames, duration_s, bool(info and info.audio), digest.hexdigest(), keyframes, last_crop)


def read_visual_chunk(
    video: str | None,
    crops: str | None,
    start: int,
    stop: int,
    *,
    crop: Crop,
    margin: float = 0.2,
    person: Person = "largest",
    frame_rate_hz: float | None = None,
    detect_every: int = 1,
    landmarks: str | None = None,
    detector: DetectorName = "dlib",
    upright: bool = False,
    labelled: Bool[np.ndarray, "label"] | None = None,
    causal: bool = False,
) -> FrameChunk:
    """Frames [start, stop), 0-based positions, as face crops or whole.

    ``crops`` takes the data set's own crop files (a frame without one is not present) and needs no decoding; ``detect``
    takes the largest face, or that of the `person` further left or right, with `margin` of its size around it, turned
    upright with `landmarks` or by the `detector`'s own points; ``frame`` takes the whole picture. With `frame_rate_hz`
    only the frames nearest to that rate are looked at (if `causal` those shown at its times), with `labelled` (by
    position, from the first frame on) only those that a labelled frame needs; the others are not present. In whatever
    pieces a video is read, the frames are the same.
    """
    positions = np.arange(start, stop, dtype=np.int32)
    looked_at = _looked_at(video, frame_rate_hz, causal)
    if labelled is not None:
        looked_at = needed(np.flatnonzero(labelled), looked_at)
    if crop == "crops" and crops:
        listing = _crops(crops)
        chosen = positions if looked_at is None else positions[np.isin(positions, looked_at)]
        there = [int(position) for position in chosen if int(position) + 1 in listing]
        images = [read_crop(listing[position + 1]) for position in there]
        return FrameChunk(positions + 1, _times(video, start, stop), np.isin(positions, there), images)
    if video is None or crop == "crops":
        raise MediaError(
            Problem(
                "MED-CROPS", where=crops or video or "track", found="no face crops",
                expected="cropped_aligned/<track>/00001.jpg ...",
                hint="add the crops, or set --visual.crop detect",
            )
        )  # fmt: skip
    num_frames = _info(video).num_frames
    frames = np.arange(num_frames) if looked_at is None else looked_at[looked_at < num_frames]
    first, last = (int(number) for number in np.searchsorted(frames, (start, stop)))
    times_s = _times(video, start, stop)
    if crop == "frame":
        shown = [(index - 1, rgb) for index, _, rgb in _reader(video).read(frames[first:last].tolist())]
        present = np.isin(positions, [position for position, _ in shown])
        return FrameChunk(positions + 1, times_s, present, [image for _, image in shown])
    tracker = _tracker(video, person, detect_every, detector)
    cut = functools.partial(cut_face, margin=margin, upright=upright, landmarks=landmarks)
    found = list(_faces(video, frames, first, last, tracker, cut))
    box = np.full((len(positions), 5), np.nan, np.float32)
    for position, _, face in found:
        box[position - start] = face.left, face.top, face.right, face.bottom, face.score
    return FrameChunk(positions + 1, times_s, ~np.isnan(box[:, 0]), [image for _, image, _ in found], box)


def _faces(
    video: str,
    frames: np.ndarray,
    first: int,
    last: int,
    tracker: FaceTracker,
    cut: Callable[[np.ndarray, FaceBox], np.ndarray],
) -> Iterator[tuple[int, np.ndarray, FaceBox]]:
    """Positions and faces of ``frames[first:last]``, and where in the picture each is."""
    begin = tracker.begin(first)
    for number, (index, _, rgb) in enumerate(_reader(video).read(frames[begin:last].tolist()), begin):
        box = tracker.find(number, rgb)
        if box is not None and number >= first:
            yield index - 1, cut(rgb, box), box


def read_sound_chunk(
    video: str | None,
    start: int,
    stop: int,
    *,
    hop_s: float,
    window_s: float,
    sample_rate_hz: int,
    causal: bool = False,
) -> SoundChunk:
    """Sound of hops [start, stop); hop i is centred at ``i * hop_s`` on the video's clock, or ends there if `causal`.

    Causal windows end earlier by the reach of the resampling filter (1 ms for 44.1 or 48 kHz read at 16), which would
    otherwise let the beginning of a later sound in. A hop is present when at least a quarter of its window has sound,
    so that the frames just before the end of the sound have a hop on both sides. Without a sound track none is.
    """
    hops = np.arange(start, stop, dtype=np.int32)
    centres = hops * hop_s
    info = _info(video).audio if video else None
    if video is None or info is None:
        absent = np.zeros(len(hops), dtype=bool)
        return SoundChunk(hops + 1, centres, absent, np.zeros(0, dtype=np.float32))
    after_s = -filter_reach_s(info.sample_rate_hz, sample_rate_hz) if causal else window_s / 2
    first, last = centres[0] + after_s - window_s, centres[-1] + after_s
    num_samples = round((last - first) * sample_rate_hz)
    sound, there = read_audio(Path(video), first, last, sample_rate_hz=sample_rate_hz)
    sound, there = _fit(sound, num_samples), _fit(there, num_samples)
    covered = np.concatenate([[0], np.cumsum(there)])
    begins = np.round((centres - centres[0]) * sample_rate_hz).astype(int)
    width = round(window_s * sample_rate_hz)
    ends = np.minimum(begins + width, num_samples)
    present = covered[ends] - covered[begins] >= width / 4
    return SoundChunk(hops + 1, centres, present, sound.astype(np.float32))


def _fit(values: np.ndarray, length: int) -> np.ndarray:
    return np.pad(values[:length], (0, max(0, length - len(values))))


def needed(wanted: Int[np.ndarray, "wanted"], grid: Int[np.ndarray, "point"] | None) -> Int[np.ndarray, "needed"]:
    """Positions that have to be looked at for the `wanted` ones: those themselves, or their neighbours in a `grid`.

    Both are ascending. Between two points of a grid features are interpolated, so that both points are needed.
    """
    if grid is None or not len(grid):
        return wanted
    before = np.searchsorted(grid, wanted, side="right") - 1
    after = np.searchsorted(grid, wanted, side="left")
    places: Int[np.ndarray, "needed"] = grid[np.unique(np.clip([before, after], 0, len(grid) - 1))]
    return places


@functools.lru_cache(maxsize=2)
def _looked_at(video: str | None, frame_rate_hz: float | None, causal: bool) -> np.ndarray | None:
    """Positions of the frames that a rate asks for; None: all. Without a video there is no clock, and all are."""
    if video is None or frame_rate_hz is None:
        return None
    return nearest_frames(_info(video).frame_times_s, frame_rate_hz, causal=causal)


def _times(video: str | None, start: int, stop: int) -> np.ndarray:
    """Times of frames [start, stop); NaN without a video. Beyond its end they continue at its mean rate."""
    if not video:
        return np.full(stop - start, np.nan)
    known = _info(video).frame_times_s
    step = (known[-1] - known[0]) / (len(known) - 1) if len(known) > 1 else 0.0
    beyond = known[-1] + step * np.arange(1, max(stop - len(known), 0) + 1)
    return np.concatenate([known, beyond])[start:stop]


def frame_times(video: str) -> Float[np.ndarray, "frame"]:
    """When each frame is shown, in seconds. Raises MediaError."""
    return _info(video).frame_times_s


@functools.lru_cache(maxsize=4)
def _info(video: str) -> VideoInfo:
    return probe_video(Path(video))


@functools.lru_cache(maxsize=4)
def _crops(folder: str) -> dict[int, Path]:
    return list_crops(Path(folder))


@functools.lru_cache(maxsize=1)
def _reader(video: str) -> FrameReader:
    """The video that this process reads: it stays open from one piece to the next."""
    return FrameReader(Path(video), _info(video))


@functools.lru_cache(maxsize=1)
def _tracker(video: str, person: Person, every: int, detector: DetectorName) -> FaceTracker:
    """The face that this process follows, from one piece to the next."""
    return FaceTracker(load_detector(detector), every=every, person=person)
