"""Decoding on CPU tasks: a chunk in, pictures of the encoder's size or a stretch of sound out."""

from __future__ import annotations

import dataclasses
import functools
import pickle
import time
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from affectgrid.data.annotations import LabelFile, read_annotation
from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.distributed.encode.plan import Chunk
from affectgrid.distributed.encode.sandbox import Limits, guarded
from affectgrid.encoders.preprocess import ImagePreprocess
from affectgrid.encoders.runtime.precision import Resolved
from affectgrid.encoders.runtime.quantised import Quantised
from affectgrid.encoders.unchanged import UnchangedFrames
from affectgrid.errors import AnnotationError, MediaError
from affectgrid.media.chunks import FrameChunk, SoundChunk, frame_times, read_sound_chunk, read_visual_chunk

Row = dict[str, Any]
PIECE_FRAMES = 16  # read at a time: 15 MB at 640 x 480, which stays in the processor's cache until it is resized


@dataclasses.dataclass(frozen=True)
class StreamJob:
    """One stream of an encode run, as every stage needs it.

    Args:
        stream: its settings.
        fingerprint, spec: its folder in the store, and what that hashes.
        preprocess: of the visual encoder; None for sound.
        dim: length of a feature.
        precision, quantised: what the settings came to, and the int8 model.
    """

    stream: VisualStream | AudioStream
    fingerprint: str
    preprocess: ImagePreprocess | None
    dim: int
    spec: dict[str, object]
    precision: Resolved = "fp32"
    quantised: Quantised | None = None


def decode(row: Row, *, jobs: dict[str, StreamJob], limits: Limits) -> Row:
    """Read one chunk; a failure becomes a row with its reason, so that the other chunks continue."""
    chunk = Chunk(**row)
    empty: Row = {
        "track": chunk.track, "stream": chunk.stream, "number": chunk.number, "error": "",
        "frame_index": np.zeros(0, np.int32), "time_s": np.zeros(0), "present": np.zeros(0, bool),
        "images": np.zeros((0, 3, 1, 1), np.uint8), "sound": np.zeros(0, np.float32),
        "box": np.zeros((0, 5), np.float32), "taken": np.zeros(0, np.int64), "decode_s": 0.0,
    }  # fmt: skip
    began = time.perf_counter()
    try:
        read = _frames(chunk, jobs, limits) if chunk.stream == "visual" else _sound(chunk, jobs, limits)
    except (MediaError, AnnotationError) as error:
        return empty | {"error": str(error)}
    return empty | read | {"decode_s": time.perf_counter() - began}


def _frames(chunk: Chunk, jobs: dict[str, StreamJob], limits: Limits) -> Row:
    """Frames in pieces: each is resized before the next is read, so that few large pictures are in memory."""
    job = jobs["visual"]
    assert isinstance(job.stream, VisualStream)
    assert job.preprocess is not None
    pieces: list[FrameChunk] = []
    images: list[np.ndarray] = []
    taken: list[np.ndarray] = []
    unchanged = UnchangedFrames(job.stream.skip_unchanged, job.stream.skip_at_most)
    begin = unchanged.begin(chunk.start)
    for start in range(begin, chunk.stop, PIECE_FRAMES):
        piece = read_piece(job.stream, chunk, start, min(start + PIECE_FRAMES, chunk.stop), limits)
        resized = resize_all(piece.images, job.preprocess)
        own, is_new = unchanged.choose(piece.frame_index[piece.present] - 1, resized)
        images.append(resized[is_new])
        taken.append(own)
        pieces.append(dataclasses.replace(piece, images=[]))
    present = np.concatenate([piece.present for piece in pieces])
    before = chunk.start - begin  # frames that were only looked at for what the first ones take
    return {
        "frame_index": np.concatenate([piece.frame_index for piece in pieces])[before:],
        "time_s": np.concatenate([piece.time_s for piece in pieces])[before:],
        "present": present[before:],
        "images": np.concatenate(images),
        "taken": np.concatenate(taken)[int(present[:before].sum()) :],
        "box": np.concatenate([piece.box for piece in pieces])[before:],
    }


def read_piece(stream: VisualStream, chunk: Chunk, start: int, stop: int, limits: Limits) -> FrameChunk:
    """Some frames of a chunk, as the decoding process gives them."""
    frames: FrameChunk = guarded(
        limits,
        read_visual_chunk,
        chunk.video,
        chunk.crops,
        start,
        stop,
        crop=stream.crop,
        margin=stream.margin,
        person=chunk.person,
        frame_rate_hz=stream.frame_rate_hz,
        detect_every=stream.detect_every,
        landmarks=str(stream.landmarks) if stream.landmarks else None,
        detector=stream.detector,
        upright=stream.upright,
        labelled=_labelled(chunk.annotation, chunk.video, limits) if chunk.annotation else None,
        causal=stream.causal,
    )
    return frames


@functools.lru_cache(maxsize=2)
def _labelled(annotation: bytes, video: str | None, limits: Limits) -> Bool[np.ndarray, "frame"]:
    source: LabelFile = pickle.loads(annotation)  # noqa: S301 - of this run's plan
    times = functools.partial(guarded, limits, frame_times, video) if video else None
    return read_annotation(source, times).valid


def _sound(chunk: Chunk, jobs: dict[str, StreamJob], limits: Limits) -> Row:
    stream = jobs["audio"].stream
    assert isinstance(stream, AudioStream)
    sound: SoundChunk = guarded(
        limits,
        read_sound_chunk,
        chunk.video,
        chunk.start,
        chunk.stop,
        hop_s=stream.hop_s,
        window_s=stream.window_s,
        sample_rate_hz=stream.sample_rate_hz,
        causal=stream.causal,
    )
    return dataclasses.asdict(sound)


def resize_all(
    images: list[UInt8[np.ndarray, "height width 3"]], preprocess: ImagePreprocess
) -> UInt8[np.ndarray, "n 3 size size"]:
    """Square pictures of the encoder's size, in the given order; pictures of one size are resized together."""
    size = preprocess.image_size
    out = np.empty((len(images), 3, size, size), dtype=np.uint8)
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        by_shape.setdefault(image.shape, []).append(place)
    for places in by_shape.values():
        batch = torch.from_numpy(np.stack([images[place] for place in places])).permute(0, 3, 1, 2)
        out[places] = preprocess.resize(batch).numpy()
    return out
