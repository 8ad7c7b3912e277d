"""Predictions of a source as it plays: told, written as CSV, and how late each of them is."""

from __future__ import annotations

import csv
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.encoders.audio import load_audio
from affectgrid.encoders.live import LivePictures, LiveSound
from affectgrid.encoders.visual import load_visual
from affectgrid.media.capture import Capture
from affectgrid.media.faces import FaceBox, FaceTracker, load_detector
from affectgrid.training.inference.live import LiveModel
from affectgrid.training.inference.package import ModelPackage

_TOLD_EVERY_S = 1.0


@dataclasses.dataclass(frozen=True)
class LivePrediction:
    """One frame: its time and face, what was predicted, and how long after it arrived, in seconds."""

    time_s: float
    box: FaceBox | None
    valence: float
    arousal: float
    latency_s: float


def follow(
    source: str, package: ModelPackage, *, seconds: float | None, detect_every: int, most_waiting: int = 12
) -> Iterator[LivePrediction | int]:
    """A prediction for each frame that is not dropped, until the source ends or `seconds` are over.

    The last value is the number of frames that were dropped, for they waited too long. Without a face a frame has NaN.
    Encoders compute in float32, whatever the model's features were made with. Raises MediaError, ModelError.
    """
    model = LiveModel(package)
    visual = VisualStream.model_validate_json(package.encoders["visual_stream"])
    audio = AudioStream.model_validate_json(package.encoders["audio_stream"])
    whole: Literal["frame"] = "frame"
    tracker = None if visual.crop == whole else FaceTracker(load_detector(visual.detector), every=detect_every)
    pictures = LivePictures(
        load_visual(visual.model, trusted=True), tracker, margin=visual.margin, upright=visual.upright
    )
    encoder = load_audio(
        audio.model,
        window_s=audio.window_s,
        layer=audio.layer,
        pooling=audio.pooling,
        trusted=True,
    )
    with Capture(source, sample_rate_hz=encoder.sample_rate_hz, most_waiting=most_waiting) as capture:
        sound = LiveSound(encoder, hop_s=audio.hop_s, source_rate_hz=capture.sound_rate_hz)
        while True:
            frames, heard = capture.take()
            if not frames or (seconds is not None and frames[0].time_s > seconds):
                break
            boxes, features = pictures.encode([frame.rgb for frame in frames])
            seen = np.array([box is not None or tracker is None for box in boxes])
            model.add_hops(*sound.encode(heard))
            model.add_frames(np.array([frame.time_s for frame in frames]), seen, features)
            va = np.where(seen[:, None], model.predict(len(frames)), np.nan)
            now_s = time.monotonic()
            for frame, box, (valence, arousal) in zip(frames, boxes, va.tolist(), strict=True):
                yield LivePrediction(frame.time_s, box, valence, arousal, now_s - frame.arrived_s)
        yield capture.num_dropped


def tell(predictions: Iterator[LivePrediction | int], path: Path | None) -> Iterator[str]:
    """Lines for a terminal: one a second, and at the end what was kept up with. All frames go to the file `path`."""
    latencies, told_s, dropped, first_s, last_s = list[float](), -np.inf, 0, np.nan, np.nan
    file = path.open("w", newline="", encoding="utf-8") if path else None
    try:
        writer = csv.writer(file, lineterminator="\n") if file else None
        if writer:
            writer.writerow(("time_s", "valence", "arousal", "face_found", "latency_s"))
        for one in predictions:
            if isinstance(one, int):
                dropped = one
                continue
            latencies.append(one.latency_s)
            first_s, last_s = (one.time_s if np.isnan(first_s) else first_s), one.time_s
            known = not np.isnan(one.valence)
            numbers = [f"{value:.5f}" if known else "" for value in (one.valence, one.arousal)]
            if writer:
                row = (f"{one.time_s:.3f}", *numbers, int(one.box is not None), f"{one.latency_s:.3f}")
                writer.writerow(row)
            if one.time_s - told_s >= _TOLD_EVERY_S:
                told_s = one.time_s
                said = f"valence {one.valence:+.2f}  arousal {one.arousal:+.2f}" if known else "no face"
                yield f"{one.time_s:7.2f} s  {said}  {1000 * one.latency_s:.0f} ms after the frame"
    finally:
        if file:
            file.close()
    if not latencies:
        yield "no frame"
        return
    half, most = np.quantile(latencies, (0.5, 0.95))
    rate = (len(latencies) - 1) / (last_s - first_s) if last_s > first_s else 0.0
    yield (
        f"{len(latencies)} frames, {rate:.1f} a second, {dropped} dropped; "
        f"latency {half:.3f} s, 95 % within {most:.3f} s"
    )
