"""Encoding in a pool of actors: a decoded chunk in, a part file in the store out."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from affectgrid.data.store import FeatureStore, FeatureTable
from affectgrid.data.streams import AudioStream
from affectgrid.distributed.decode_stage import Row, StreamJob
from affectgrid.encoders.audio import AudioEncoder, load_audio
from affectgrid.encoders.visual import VisualEncoder, load_visual


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
