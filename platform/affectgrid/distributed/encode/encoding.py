"""Encoding in a pool of actors: a decoded chunk in, a part file in the store out."""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import AudioStream
from affectgrid.data.features.table import FeatureTable
from affectgrid.distributed.encode.decoding import Row, StreamJob, decode
from affectgrid.distributed.encode.sandbox import Limits
from affectgrid.encoders.audio import AudioEncoder, load_audio
from affectgrid.encoders.runtime.heap import keep_freed_memory
from affectgrid.encoders.visual import VisualEncoder, load_visual
from affectgrid.errors import MediaError, Problem


class EncodeChunks:
    """An actor that holds the encoders, and writes each chunk's features as a part file.

    With a `device` it works without Ray too: see `in_process`.
    """

    def __init__(
        self, store: str, jobs: dict[str, StreamJob], *, batch_size: int | None, device: str | None = None
    ) -> None:
        self._store = FeatureStore(store)
        self._jobs = jobs
        self._batch_size = batch_size
        self._device = device or _own_device()
        if self._device == "cpu":
            torch.set_num_threads(1)  # Ray places one such process per core
            keep_freed_memory()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """One or more decoded chunks in, their state out: track, stream, number, frames done, error."""
        names = list(batch)
        rows = [{name: batch[name][k] for name in names} for k in range(len(batch["track"]))]
        for row in rows:
            if not row["error"]:
                self.encode(row)
        states = [_state(row) for row in rows]
        return {name: [state[name] for state in states] for name in states[0]}

    def encode(self, row: Row) -> None:
        """Write the features of a decoded chunk; those that cannot be stored are the row's error."""
        kind = str(row["stream"])
        _ = self._visual if kind == "visual" else self._audio  # loaded before the clock runs
        began = time.perf_counter()
        present = np.asarray(row["present"], dtype=bool)
        encoded = self._images(row) if kind == "visual" else self._windows(row, present)
        unusable = _unusable(encoded, row)
        if unusable is not None:
            row["error"] = str(MediaError(unusable))
            return
        features = np.zeros((len(present), encoded.shape[1]), dtype=np.float16)
        features[present] = encoded.numpy().astype(np.float16)
        table = FeatureTable(
            frame_index=np.asarray(row["frame_index"], dtype=np.int32),
            time_s=np.asarray(row["time_s"], dtype=np.float64),
            present=present,
            feature=features,
            box=np.asarray(row["box"], dtype=np.float32) if row["box"].size else None,
        )
        self._store.write_part(kind, self._jobs[kind].fingerprint, str(row["track"]), int(row["number"]), table)
        row["encode_s"] = time.perf_counter() - began

    def _images(self, row: Row) -> Float[Tensor, "n dim"]:
        features = self._visual.encode_images(np.asarray(row["images"]))
        return features[torch.from_numpy(np.array(row["taken"]))]

    def _windows(self, row: Row, present: np.ndarray) -> Float[Tensor, "n dim"]:
        encoder = self._audio
        if not present.any():
            return torch.zeros(0, encoder.dim)
        centres = np.asarray(row["time_s"])
        begins = np.round((centres - centres[0]) * encoder.sample_rate_hz).astype(int)[present]
        sound = np.array(row["sound"], dtype=np.float32)  # a copy: what Ray gives is read-only
        return encoder.encode_sound(sound, begins)

    @functools.cached_property
    def _visual(self) -> VisualEncoder:
        return load_visual(self._jobs["visual"].stream.model, **self._computed_by("visual"))

    @functools.cached_property
    def _audio(self) -> AudioEncoder:
        stream = self._jobs["audio"].stream
        assert isinstance(stream, AudioStream)
        return load_audio(
            stream.model,
            window_s=stream.window_s,
            layer=stream.layer,
            pooling=stream.pooling,
            **self._computed_by("audio"),
        )

    def _computed_by(self, kind: str) -> dict[str, Any]:
        job = self._jobs[kind]
        chosen = {"runtime": job.stream.runtime, "precision": job.precision, "quantised": job.quantised}
        return {"device": self._device, "trusted": True, "batch_size": self._batch_size, **chosen}


class WholeChunks(EncodeChunks):
    """Both stages in one actor, for machines without an accelerator.

    There the encoder is always the bottleneck, and a pool of one thread per core, each of which decodes what it
    encodes, keeps every core busy without a picture crossing the object store.
    """

    def __init__(self, store: str, jobs: dict[str, StreamJob], limits: Limits, *, batch_size: int | None) -> None:
        super().__init__(store, jobs, batch_size=batch_size)
        self._limits = limits

    def __call__(self, row: Row) -> Row:
        """A chunk in, its state out. Ray Data maps it over rows, not batches."""
        decoded = decode(row, jobs=self._jobs, limits=self._limits)
        if not decoded["error"]:
            self.encode(decoded)
        return _state(decoded)


def _unusable(encoded: Float[Tensor, "n dim"], row: Row) -> Problem | None:
    """Features that half precision cannot hold: the track's own fault, or the encoder's in its precision."""
    limit = torch.finfo(torch.float16).max
    bad = ~(encoded.abs() <= limit)  # NaN is no smaller than anything
    if not bool(bad.any()):
        return None
    finite = encoded[encoded.isfinite()].abs()
    largest = f"the largest finite one is {float(finite.max()):.3g}" if len(finite) else "none is finite"
    first = int(bad.any(1).nonzero()[0])
    time_s = np.asarray(row["time_s"])[np.asarray(row["present"], dtype=bool)][first]
    return Problem(
        "ENC-RANGE",
        where=f"{row['track']} ({row['stream']}), from {time_s:.2f} s",
        found=f"{int(bad.sum())} of {bad.numel()} feature values are not finite or beyond {limit:g}; {largest}",
        expected="features that half precision can hold",
        hint="encode with --precision fp32, or leave the track out and look at its picture or sound there",
    )


def _own_device() -> str:
    from affectgrid.distributed.preflight import device  # not above: Ray's, and a served model has none

    return device()


def _state(row: Row) -> Row:
    from affectgrid.distributed.preflight import node_name

    return {
        "track": str(row["track"]),
        "stream": str(row["stream"]),
        "number": int(row["number"]),
        "size": len(row["frame_index"]),
        "error": str(row["error"]),
        "node": node_name(),
        "decode_s": float(row["decode_s"]),
        "encode_s": float(row.get("encode_s", 0.0)),
    }
