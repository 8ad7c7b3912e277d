"""Smooth random functions of time: affect paths, and everything else that drifts."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class SlowSignal:
    """A sum of slow sines with zero mean and unit variance over long times; a function of time, whatever the rate.

    The same signal is read at frame times by the face and at sample times by the voice.
    """

    frequencies_hz: Float[np.ndarray, " sine"]
    phases: Float[np.ndarray, " sine"]
    amplitudes: Float[np.ndarray, " sine"]

    def __call__(self, times_s: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
        """Values at any times, in seconds."""
        angles = 2 * np.pi * self.frequencies_hz[:, None] * times_s[None, :] + self.phases[:, None]
        values: np.ndarray = self.amplitudes @ np.sin(angles)
        return values


def slow_signal(
    rng: np.random.Generator, *, low_hz: float = 0.05, high_hz: float = 0.3, num_sines: int = 6
) -> SlowSignal:
    """Draw a signal whose sines lie in [low_hz, high_hz], spread evenly on a log scale."""
    edges = np.geomspace(low_hz, high_hz, num_sines + 1)
    weights = rng.uniform(0.5, 1.0, num_sines)
    return SlowSignal(
        frequencies_hz=rng.uniform(edges[:-1], edges[1:]),
        phases=rng.uniform(0, 2 * np.pi, num_sines),
        amplitudes=weights * np.sqrt(2 / np.sum(weights**2)),  # a unit sine has variance 1/2
    )


@dataclasses.dataclass(frozen=True)
class AffectPath:
    """One person's true valence and arousal over time, inside (-0.95, 0.95)."""

    valence: SlowSignal
    arousal: SlowSignal
    centre: tuple[float, float]

    def __call__(self, times_s: Float[np.ndarray, " time"]) -> Float[np.ndarray, "time 2"]:
        """(valence, arousal) at any times, in seconds."""
        raw = np.stack((self.valence(times_s), self.arousal(times_s)), axis=-1)
        return 0.95 * np.tanh(np.asarray(self.centre) + 0.6 * raw)


def affect_path(rng: np.random.Generator) -> AffectPath:
    """Draw a path: people differ in where it is centred and share how fast it moves (0.05 to 0.3 Hz)."""
    centre = rng.normal(0.0, 0.2, 2)
    return AffectPath(slow_signal(rng), slow_signal(rng), (float(centre[0]), float(centre[1])))
