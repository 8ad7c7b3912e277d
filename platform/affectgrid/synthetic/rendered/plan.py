"""The videos of a rendered corpus and the peculiarities of each, decided before anything is drawn."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np

from affectgrid.synthetic.rendered.config import RenderConfig

RATES_HZ = tuple(Fraction(text) for text in ("15", "12", "30000/1001", "10", "25/2", "20", "15", "25", "12"))
SIZES = ((240, 180), (240, 180), (256, 144), (240, 180), (208, 176))
SOUNDS = ((16_000, "mono"), (44_100, "stereo"), (22_050, "mono"), (48_000, "stereo"))
SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class TrackPlan:
    """One person of a video.

    Args:
        name: the track's id; the video's name, with ``_left`` or ``_right`` where two people share it.
        place: where the head is, as shares of the picture's width and height.
        away: spans in seconds in which the face is out of the picture.
        unlabelled: spans in seconds that the rater gave -5.
        extra_lines: annotation lines more (or fewer) than the video has frames.
        scientific: whether the path passes through values so small that they are written like ``5.2e-05``.
    """

    name: str
    place: tuple[float, float]
    away: tuple[tuple[float, float], ...]
    unlabelled: tuple[tuple[float, float], ...]
    extra_lines: int
    scientific: bool


@dataclasses.dataclass(frozen=True)
class VideoPlan:
    """One video. ``seed`` alone decides what is drawn; ``sound`` is (sample rate in Hz, layout) or None."""

    name: str
    suffix: str
    split: str
    seed: int
    rate_hz: Fraction
    width: int
    height: int
    num_frames: int
    sound: tuple[int, str] | None
    tracks: tuple[TrackPlan, ...]

    @property
    def duration_s(self) -> float:
        """From the first frame to the end of the last."""
        return float(self.num_frames / self.rate_hz)


def plan_corpus(config: RenderConfig) -> tuple[VideoPlan, ...]:
    """Every video of a corpus. Counts, names and peculiarities follow from ``config``; equal for equal values."""
    counts = (config.num_train, config.num_validation, config.num_test)
    splits = [split for split, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
    return tuple(_plan_video(config, number, split) for number, split in enumerate(splits))


def _plan_video(config: RenderConfig, number: int, split: str) -> VideoPlan:
    """Peculiarities go by number, so that even a small corpus has each; the rest is drawn."""
    rng = np.random.default_rng([config.seed, number])
    rate_hz = RATES_HZ[number % len(RATES_HZ)]
    width, height = SIZES[number % len(SIZES)]
    num_frames = round(config.duration_s * rng.uniform(0.75, 1.25) * rate_hz)
    duration_s = float(num_frames / rate_hz)
    name = f"rendered-{number + 1:03d}"
    if number == 3:
        name += "-30-1280x720"  # the data set's names speak of rates and sizes, and are not always right
    two = number == 1
    tracks = tuple(
        TrackPlan(
            name=name + side,
            place=(x, 0.5),
            away=_spans(rng, duration_s, share=0.1) if number % 3 == 2 else (),
            unlabelled=_spans(rng, duration_s, share=0.08) if number % 4 == 0 else (),
            extra_lines={0: 0, 1: -1, 2: 0, 3: 2, 4: 0, 5: 1, 6: -2}[number % 7],
            scientific=number % 5 == 0,
        )
        for side, x in ((("_left", 0.27), ("_right", 0.73)) if two else (("", 0.5),))
    )
    return VideoPlan(
        name=name,
        suffix=".avi" if number == 6 else ".mp4",
        split=split,
        seed=int(rng.integers(2**31)),
        rate_hz=rate_hz,
        width=320 if two else width,
        height=180 if two else height,
        num_frames=num_frames,
        sound=None if number == 4 else SOUNDS[number % len(SOUNDS)],
        tracks=tracks,
    )


def _spans(rng: np.random.Generator, duration_s: float, *, share: float) -> tuple[tuple[float, float], ...]:
    """One span, of ``share`` of the video, away from its ends."""
    length_s = share * duration_s
    start_s = float(rng.uniform(0.1, 0.9 - share)) * duration_s
    return ((start_s, start_s + length_s),)
