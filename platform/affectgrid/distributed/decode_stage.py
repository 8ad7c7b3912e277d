"""Decoding on CPU tasks: a chunk in, pictures of the encoder's size or a stretch of sound out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from affectgrid.data.plan import Chunk
from affectgrid.data.streams import AudioStream, VisualStream
from affectgrid.distributed.guarded import Limits, guarded
from affectgrid.encoders.preprocess import ImagePreprocess
from affectgrid.errors import MediaError
from affectgrid.media.chunks import FrameChunk, SoundChunk, read_sound_chunk, read_visual_chunk

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class StreamJob:
    """One stream of an encode run, as every stage needs it."""

    stream: VisualStream | AudioStream
    fingerprint: str
    preprocess: ImagePreprocess | None  # of the visual encoder


def decode(row: Row, *, jobs: dict[str, StreamJob], limits: Limits) -> Row:
    """Read one chunk; a failure becomes a row with its reason, so that the other chunks go on."""
    chunk = Chunk(**row)
    empty: Row = {
        "track": chunk.track, "stream": chunk.stream, "number": chunk.number, "error": "",
        "frame_index": np.zeros(0, np.int32), "time_s": np.zeros(0), "present": np.zeros(0, bool),
        "images": np.zeros((0, 3, 1, 1), np.uint8), "sound": np.zeros(0, np.float32),
    }  # fmt: skip
    try:
        return empty | (_frames(chunk, jobs, limits) if chunk.stream == "visual" else _sound(chunk, jobs, limits))
    except MediaError as error:
        return empty | {"error": str(error)}


def _frames(chunk: Chunk, jobs: dict[str, StreamJob], limits: Limits) -> Row:
    job = jobs["visual"]
    assert isinstance(job.stream, VisualStream)
    assert job.preprocess is not None
    frames: FrameChunk = guarded(
        limits,
        read_visual_chunk,
        chunk.video,
        chunk.crops,
        chunk.start,
        chunk.stop,
        crop=job.stream.crop,
        margin=job.stream.margin,
        person=chunk.person,
    )
    return {
        "frame_index": frames.frame_index,
        "time_s": frames.time_s,
        "present": frames.present,
        "images": resize_all(frames.images, job.preprocess),
    }


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
