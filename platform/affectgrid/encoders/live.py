"""Features of frames and sound as they come: what an encode run with causal streams would have stored."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from affectgrid.encoders.audio import AudioEncoder
from affectgrid.encoders.visual import VisualEncoder
from affectgrid.media.audio import filter_reach_s
from affectgrid.media.faces import FaceBox, FaceTracker, cut_face


class LivePictures:
    """Faces of frames, one after another, and their features.

    Args:
        encoder: of the pictures.
        tracker: finds the face; None: whole frames are encoded.
        margin, upright: how a face is cut out, as it was of the model's training data.
    """

    def __init__(
        self, encoder: VisualEncoder, tracker: FaceTracker | None, *, margin: float, upright: bool = False
    ) -> None:
        self._encoder, self._tracker = encoder, tracker
        self._cut = functools.partial(cut_face, margin=margin, upright=upright)
        self._number = 0

    def encode(
        self, frames: Sequence[UInt8[np.ndarray, "height width 3"]]
    ) -> tuple[list[FaceBox | None], Float[np.ndarray, "frame dim"]]:
        """The face in each frame, None without one or where none is looked for, and features; 0 without a face."""
        features = np.zeros((len(frames), self._encoder.dim), np.float32)
        boxes, pictures, places = [], [], []
        for place, rgb in enumerate(frames):
            box = None if self._tracker is None else self._tracker.find(self._number, rgb)
            self._number += 1
            boxes.append(box)
            if box is not None or self._tracker is None:
                pictures.append(self._encoder.preprocess(rgb if box is None else self._cut(rgb, box)))
                places.append(place)
        if pictures:
            features[places] = self._encoder.encode_images(np.stack(pictures)).numpy()
        return boxes, features


class LiveSound:
    """A window of sound before each hop, and its features.

    Args:
        encoder: of windows.
        hop_s: time between two features.
        source_rate_hz: of the sound before it was resampled; None: that of the encoder.
    """

    def __init__(self, encoder: AudioEncoder, *, hop_s: float, source_rate_hz: int | None = None) -> None:
        self._encoder, self._hop_s, self._rate = encoder, hop_s, encoder.sample_rate_hz
        self._reach_s = filter_reach_s(source_rate_hz or self._rate, self._rate)
        self._samples = np.zeros(encoder.window_samples, np.float32)  # silence before the beginning
        self._present = np.zeros(encoder.window_samples, np.bool_)
        self._first = -encoder.window_samples  # the number of the first sample that is kept
        self._hop = 0

    def encode(
        self, sound: Sequence[tuple[float, Float[np.ndarray, " sample"]]]
    ) -> tuple[Float[np.ndarray, " hop"], np.ndarray, Float[np.ndarray, "hop dim"]]:
        """Times of the hops that `sound` completes, whether each has sound, and their features; as they were captured.

        A hop has sound where a quarter of its window does, as in an encode run.
        """
        for time_s, samples in sound:
            self._place(round(time_s * self._rate), samples)
        window, times, begins = self._encoder.window_samples, [], []
        while (end := self._end(self._hop)) <= self._first + len(self._samples):
            times.append(self._hop * self._hop_s)
            begins.append(end - window - self._first)
            self._hop += 1
        present = np.array([self._present[begin : begin + window].mean() >= 0.25 for begin in begins], np.bool_)
        features = np.zeros((len(times), self._encoder.dim), np.float32)
        if present.any():
            features[present] = self._encoder.encode_sound(self._samples, np.array(begins)[present]).numpy()
        spent = max(0, self._end(self._hop) - window - self._first)
        self._samples, self._present, self._first = self._samples[spent:], self._present[spent:], self._first + spent
        return np.array(times), present, features

    def _end(self, hop: int) -> int:
        return round((hop * self._hop_s - self._reach_s) * self._rate)

    def _place(self, at: int, samples: Float[np.ndarray, " sample"]) -> None:
        """Append at the place that the time says; what was lost between is silence, what comes twice is left out."""
        end = self._first + len(self._samples)
        gap = at - end
        if abs(gap) <= self._rate // 20:  # clocks round
            gap = 0
        if gap > 0:
            self._samples = np.concatenate([self._samples, np.zeros(gap, np.float32)])
            self._present = np.concatenate([self._present, np.zeros(gap, np.bool_)])
        new = samples[max(0, -gap) :]
        self._samples = np.concatenate([self._samples, new.astype(np.float32)])
        self._present = np.concatenate([self._present, np.ones(len(new), np.bool_)])
