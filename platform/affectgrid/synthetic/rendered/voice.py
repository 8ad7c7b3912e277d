"""A synthetic voice: syllables of harmonics through formants, whose manner follows how the speaker feels.

Arousal is loudness, pitch, tempo and brightness; valence shifts the formants and the pitch a little, as a smile does.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from affectgrid.synthetic.rendered.paths import SlowSignal, slow_signal

SAMPLE_RATE_HZ = 16_000
CONTROL_RATE_HZ = 100  # controls are smooth: drawn coarsely, interpolated to samples
NUM_HARMONICS = 24
VOWELS_HZ = np.array([[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480], [570, 840, 2410]])
BANDWIDTH_HZ = 140.0


@dataclasses.dataclass(frozen=True)
class Voice:
    """A speaker. Frequencies in Hz, levels in dB of full scale."""

    pitch_hz: float
    level_db: float
    formant_scale: float
    syllables_hz: float
    noise_db: float
    phrasing: SlowSignal
    seed: int


def draw_voice(rng: np.random.Generator) -> Voice:
    """A random speaker, from deep to high, near or far from a more or less quiet microphone."""
    height = rng.uniform(0, 1)
    return Voice(
        pitch_hz=float(100 * 2 ** (1.1 * height + rng.normal(0, 0.08))),
        level_db=float(-25 + rng.normal(0, 1.5)),
        formant_scale=float(0.95 + 0.2 * height),
        syllables_hz=float(rng.uniform(3.2, 4.2)),
        noise_db=float(rng.uniform(-62, -52)),
        phrasing=slow_signal(rng, low_hz=0.15, high_hz=0.8),
        seed=int(rng.integers(2**31)),
    )


@dataclasses.dataclass(frozen=True)
class Speech:
    """Sound, and what the mouth does meanwhile."""

    sound: Float[np.ndarray, " sample"]
    opening: Float[np.ndarray, " control"]

    def opening_at(self, times_s: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
        """How far the mouth is open, 0 to 1, at any times."""
        opening: np.ndarray = np.interp(times_s * CONTROL_RATE_HZ, np.arange(len(self.opening)), self.opening)
        return opening


def control_times(duration_s: float) -> Float[np.ndarray, " control"]:
    """The times, in seconds, at which a voice's manner is set."""
    return np.arange(int(np.ceil(duration_s * CONTROL_RATE_HZ)) + 1) / CONTROL_RATE_HZ


def speak(voice: Voice, heard: Float[np.ndarray, "control 2"], duration_s: float) -> Speech:
    """Synthesise ``duration_s`` seconds of sound.

    ``heard`` is the (valence, arousal) that the voice expresses, at control times; values beyond [-1.2, 1.2] are cut.
    """
    rng = np.random.default_rng(voice.seed)
    times_s = control_times(duration_s)
    valence, arousal = np.clip(heard, -1.2, 1.2).T
    talking = 1 / (1 + np.exp(-6 * (voice.phrasing(times_s) + 0.9)))  # pauses where the phrasing is low
    syllable = np.cumsum(voice.syllables_hz * 2 ** (0.5 * arousal)) / CONTROL_RATE_HZ
    number = syllable.astype(int)
    stress = rng.uniform(0.6, 1.0, number[-1] + 1)[number]
    opening = talking * stress * np.sin(np.pi * (syllable % 1)) ** 2
    level_db = voice.level_db + 8 * arousal
    formants = VOWELS_HZ[rng.integers(len(VOWELS_HZ), size=number[-1] + 1)][number]
    formants = formants * (voice.formant_scale * (1 + 0.10 * valence))[:, None]
    pitch = voice.pitch_hz * 2 ** (0.45 * arousal + 0.12 * valence + 0.1 * np.sin(np.pi * (syllable % 1)))
    gains = _harmonic_gains(pitch, formants, tilt_db=12 - 5 * arousal)
    gains *= (opening * 10 ** (level_db / 20))[:, None]
    num_samples = round(duration_s * SAMPLE_RATE_HZ)
    sound = _sing(pitch, gains, num_samples)
    sound += 10 ** (voice.noise_db / 20) * rng.standard_normal(num_samples).astype(np.float32)
    return Speech(np.clip(sound, -1, 1).astype(np.float32), opening)


def _harmonic_gains(
    pitch: Float[np.ndarray, " control"], formants: Float[np.ndarray, "control formant"], tilt_db: np.ndarray
) -> Float[np.ndarray, "control harmonic"]:
    """Amplitude of every harmonic: a falling source (dB per octave) through the resonances of three formants."""
    order = np.arange(1, NUM_HARMONICS + 1)
    frequency = pitch[:, None] * order
    source = 10 ** (-tilt_db[:, None] * np.log2(order) / 20)
    distance = (frequency[:, :, None] - formants[:, None, :]) / BANDWIDTH_HZ
    resonance = 0.1 + (1 / (1 + distance**2)).sum(axis=-1)
    audible = frequency < 0.45 * SAMPLE_RATE_HZ
    gains: np.ndarray = source * resonance * audible
    level: np.ndarray = np.sqrt((gains**2).sum(axis=1, keepdims=True))
    return np.asarray(gains / level)


def _sing(
    pitch: Float[np.ndarray, " control"], gains: Float[np.ndarray, "control harmonic"], num_samples: int
) -> Float[np.ndarray, " sample"]:
    """Sum the harmonics at the sample rate. sin(k x) by Chebyshev's recurrence: one sine instead of one a harmonic."""
    position = np.arange(num_samples) * (CONTROL_RATE_HZ / SAMPLE_RATE_HZ)
    control = np.arange(len(pitch))
    phase = 2 * np.pi * np.cumsum(np.interp(position, control, pitch)) / SAMPLE_RATE_HZ
    previous, current = np.zeros(num_samples), np.sin(phase)
    twice_cosine = 2 * np.cos(phase)
    sound = np.zeros(num_samples)
    for harmonic in range(gains.shape[1]):
        sound += np.interp(position, control, gains[:, harmonic]) * current
        previous, current = current, twice_cosine * current - previous
    return sound
