"""The two operators of the encode pipeline: decoding on CPU tasks, encoding in a pool of actors."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from affectgrid.data.plan import Chunk
from affectgrid.data.store import FeatureStore, FeatureTable
from affectgrid.data.streams import AudioStream, VisualStream
from affectgrid.encoders.audio import AudioEncoder, load_audio
from affectgrid.encoders.preprocess import ImagePreprocess
from affectgrid.encoders.visual import VisualEncoder, load_visual
from affectgrid.errors import MediaError
from affectgrid.media.chunks import FrameChunk, SoundChunk, Source, probe, read_sound_chunk, read_visual_chunk
from affectgrid.media.guard import GuardedProcess

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one chunk may cost before its video goes to quarantine."""

    time_s: float
    memory_bytes: int
    tries: int


@dataclasses.dataclass(frozen=True)
class StreamJob:
    """One stream of an encode run, as every stage needs it."""

    stream: VisualStream | AudioStream
    fingerprint: str
    preprocess: ImagePreprocess | None  # of the visual encoder


@functools.cache
def _guard(limits: Limits) -> GuardedProcess:
    """One decoding process for the life of this worker; it is restarted after a crash."""
    return GuardedProcess(time_limit_s=limits.time_s, memory_limit_bytes=limits.memory_bytes)


def guarded(limits: Limits, function: Any, *arguments: Any, **options: Any) -> Any:
    """Call a function of ``affectgrid.media`` in the decoding process; MediaError after ``limits.tries`` failures."""
    for attempt in range(1, limits.tries + 1):
        try:
            return _guard(limits).call(f"{function.__module__}:{function.__qualname__}", *arguments, **options)
        except MediaError as error:
            # A file that is refused is refused again; a crash or a time-out may have been the machine's fault.
            transient = error.problems[0].code in {"MED-CRASH", "MED-TIMEOUT", "MED-MEMORY"}
            if attempt == limits.tries or not transient:
                raise
    raise AssertionError("limits.tries is at least 1")


def probe_track(limits: Limits, video: str | None, crops: str | None) -> Source:
    """What a track holds, looked up in the guarded process."""
    source: Source = guarded(limits, probe, video, crops)
    return source


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


class EncodeChunks:
    """An actor that holds the encoders, and writes each chunk's features as a part file."""

    def __init__(self, store: str, jobs: dict[str, StreamJob], *, batch_size: int) -> None:
        self._store = FeatureStore(Path(store))
        self._jobs = jobs
        self._batch_size = batch_size
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        if self._device == "cpu":
            torch.set_num_threads(1)  # Ray places one such process per core

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """One or more decoded chunks in, their state out: track, stream, number, frames done, error."""
        names = list(batch)
        rows = [{name: batch[name][k] for name in names} for k in range(len(batch["track"]))]
        for row in rows:
            if not row["error"]:
                self._encode(row)
        return {
            "track": [str(row["track"]) for row in rows],
            "stream": [str(row["stream"]) for row in rows],
            "number": [int(row["number"]) for row in rows],
            "size": [len(row["frame_index"]) for row in rows],
            "error": [str(row["error"]) for row in rows],
        }

    def _encode(self, row: Row) -> None:
        kind = str(row["stream"])
        present = np.asarray(row["present"], dtype=bool)
        encoded = self._images(row["images"]) if kind == "visual" else self._windows(row, present)
        features = np.zeros((len(present), encoded.shape[1]), dtype=np.float16)
        features[present] = encoded.numpy().astype(np.float16)
        table = FeatureTable(
            frame_index=np.asarray(row["frame_index"], dtype=np.int32),
            time_s=np.asarray(row["time_s"], dtype=np.float64),
            present=present,
            feature=features,
        )
        self._store.write_part(kind, self._jobs[kind].fingerprint, str(row["track"]), int(row["number"]), table)

    def _images(self, images: np.ndarray) -> Float[Tensor, "n dim"]:
        encoder = self._visual
        batches = [images[k : k + self._batch_size] for k in range(0, len(images), self._batch_size)]
        return torch.cat([torch.zeros(0, encoder.dim), *(encoder.encode_images(np.asarray(b)) for b in batches)])

    def _windows(self, row: Row, present: np.ndarray) -> Float[Tensor, "n dim"]:
        encoder = self._audio
        if not present.any():
            return torch.zeros(0, encoder.dim)
        sound = torch.from_numpy(np.ascontiguousarray(row["sound"], dtype=np.float32))
        rate, width = encoder.sample_rate_hz, encoder.window_samples
        centres = np.asarray(row["time_s"])
        begins = np.round((centres - centres[0]) * rate).astype(int)[present]
        sound = torch.nn.functional.pad(sound, (0, max(0, int(begins.max()) + width - len(sound))))
        windows = torch.stack([sound[begin : begin + width] for begin in begins])
        return torch.cat([encoder.encode_windows(batch) for batch in torch.split(windows, self._batch_size)])

    @functools.cached_property
    def _visual(self) -> VisualEncoder:
        return load_visual(self._jobs["visual"].stream.model, device=self._device)

    @functools.cached_property
    def _audio(self) -> AudioEncoder:
        stream = self._jobs["audio"].stream
        assert isinstance(stream, AudioStream)
        return load_audio(stream.model, device=self._device, window_s=stream.window_s)
