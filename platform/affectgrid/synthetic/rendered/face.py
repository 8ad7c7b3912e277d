"""A drawn face: who it is, what it does in each frame, and its picture.

Valence bends the mouth, lifts the cheeks and tilts the brows; arousal opens the eyes and raises the brows, less
plainly. Speech, blinks, gaze and the head's drift move the face too, and mean nothing.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from affectgrid.synthetic.rendered.paths import SlowSignal, slow_signal

Colour = tuple[int, int, int]
SUPERSAMPLING = 2  # drawn at twice the size and averaged: Pillow's shapes have hard edges
SKINS: tuple[Colour, ...] = (
    (244, 208, 177),
    (231, 180, 143),
    (198, 134, 92),
    (141, 85, 54),
    (94, 60, 42),
    (250, 222, 200),
)
HAIRS: tuple[Colour, ...] = ((40, 28, 22), (92, 58, 34), (176, 126, 68), (120, 116, 112), (150, 62, 30), (22, 22, 26))
IRISES: tuple[Colour, ...] = ((70, 46, 30), (52, 88, 120), (64, 98, 60))
CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 25)[:-1]) for f in (np.cos, np.sin)], axis=-1)
LIP = np.linspace(-1, 1, 9)


@dataclasses.dataclass(frozen=True)
class Person:
    """Looks and habits. Lengths in units of the head's half height."""

    skin: Colour
    hair: Colour
    iris: Colour
    head_width: float
    eye_distance: float
    eye_size: float
    brow_thickness: float
    mouth_width: float
    hair_line: float
    rest_curve: float
    rest_brow: float
    rest_eye: float
    sway: tuple[SlowSignal, ...]  # x, y, size, roll, gaze x, gaze y
    blink_seed: int


def draw_person(rng: np.random.Generator) -> Person:
    """A random person."""

    def pick(colours: tuple[Colour, ...]) -> Colour:
        chosen = np.array(colours[rng.integers(len(colours))]) + rng.integers(-8, 9, 3)
        red, green, blue = np.clip(chosen, 0, 255).tolist()
        return (red, green, blue)

    return Person(
        skin=pick(SKINS),
        hair=pick(HAIRS),
        iris=pick(IRISES),
        head_width=float(rng.uniform(0.72, 0.84)),
        eye_distance=float(rng.uniform(0.31, 0.37)),
        eye_size=float(rng.uniform(0.15, 0.18)),
        brow_thickness=float(rng.uniform(0.05, 0.09)),
        mouth_width=float(rng.uniform(0.32, 0.40)),
        hair_line=float(rng.uniform(0.45, 0.62)),
        rest_curve=float(rng.normal(0, 0.08)),
        rest_brow=float(rng.normal(0, 0.06)),
        rest_eye=float(rng.normal(0, 0.06)),
        sway=tuple(slow_signal(rng, low_hz=0.1, high_hz=0.6) for _ in range(6)),
        blink_seed=int(rng.integers(2**31)),
    )


@dataclasses.dataclass(frozen=True)
class Motion:
    """What a face does in each frame: expression (unitless) and pose (lengths in head half heights)."""

    curve: Float[np.ndarray, " frame"]
    opening: Float[np.ndarray, " frame"]
    brow: Float[np.ndarray, " frame"]
    tilt: Float[np.ndarray, " frame"]
    eye: Float[np.ndarray, " frame"]
    cheek: Float[np.ndarray, " frame"]
    offset: Float[np.ndarray, "frame 2"]
    size: Float[np.ndarray, " frame"]
    roll: Float[np.ndarray, " frame"]
    gaze: Float[np.ndarray, "frame 2"]


def move(
    person: Person,
    seen: Float[np.ndarray, "frame 2"],
    mouth_opening: Float[np.ndarray, " frame"],
    times_s: Float[np.ndarray, " frame"],
) -> Motion:
    """Turn the (valence, arousal) that the face expresses, and speech, into motion."""
    valence, arousal = np.clip(seen, -1.2, 1.2).T
    x, y, size, roll, gaze_x, gaze_y = (signal(times_s) for signal in person.sway)
    return Motion(
        curve=person.rest_curve + 0.9 * valence,
        opening=0.03 + 0.16 * mouth_opening + 0.05 * np.maximum(arousal, 0),
        brow=person.rest_brow + 0.30 * arousal,
        tilt=np.where(valence < 0, -0.5, -0.15) * valence,
        eye=np.clip(0.75 + person.rest_eye + 0.25 * arousal - 0.15 * np.maximum(valence, 0), 0.2, 1.2)
        * _open_between_blinks(person.blink_seed, times_s),
        cheek=np.clip(valence, 0, 1),
        offset=0.06 * np.stack((x, y), axis=-1),
        size=1 + 0.04 * size,
        roll=0.05 * roll + 0.04 * arousal,
        gaze=0.3 * np.stack((gaze_x, gaze_y), axis=-1),
    )


def _open_between_blinks(seed: int, times_s: Float[np.ndarray, " frame"]) -> Float[np.ndarray, " frame"]:
    """1, but for blinks of 0.2 s every two to six seconds."""
    rng = np.random.default_rng(seed)
    blinks_s = np.cumsum(rng.uniform(2, 6, int(times_s[-1] // 2) + 2))
    nearest = np.abs(times_s[:, None] - blinks_s).min(axis=1)
    return np.asarray(np.clip(nearest / 0.1, 0.05, 1))


class FaceArtist:
    """Draws one person into supersampled pictures. Coordinates of a call are in pixels of the final picture."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.shade: Colour = _scaled(person.skin, 0.82)
        self.lips: Colour = _blend(person.skin, (176, 50, 60), 0.6)
        self.blush: Colour = _blend(person.skin, (226, 96, 96), 0.28)

    def draw(
        self, canvas: Image.Image, motion: Motion, frame: int, centre: tuple[float, float], half_height: float
    ) -> None:
        """Draw one frame's face and shoulders onto ``canvas``."""
        radius = half_height * SUPERSAMPLING * motion.size[frame]
        middle = np.array(centre) * SUPERSAMPLING + motion.offset[frame] * radius
        cosine, sine = np.cos(motion.roll[frame]), np.sin(motion.roll[frame])
        turn = np.array([[cosine, sine], [-sine, cosine]]) * radius
        pen = _Pen(ImageDraw.Draw(canvas), middle, turn, radius)
        self._head(pen, motion.cheek[frame])
        self._eyes(pen, motion, frame)
        self._mouth(pen, motion.curve[frame], motion.opening[frame])

    def _head(self, pen: _Pen, cheek: float) -> None:
        person = self.person
        width = person.head_width
        pen.ellipse((0, 1.75), (1.35, 0.8), _scaled(person.hair, 0.7))  # shoulders
        pen.ellipse((0, 1.0), (0.34, 0.5), self.shade)
        pen.ellipse((0, -0.12), (width + 0.12, 1.02), person.hair)
        for side in (-1, 1):
            pen.ellipse((side * width, 0.02), (0.1, 0.17), self.shade)
        pen.ellipse((0, 0), (width, 1), person.skin)
        fringe = CIRCLE[12:] * (width * 1.02, 1.02)  # the upper half: y points down
        pen.polygon(
            np.concatenate((fringe, [(width * 0.8, -person.hair_line), (-width * 0.8, -person.hair_line)])), person.hair
        )
        if cheek > 0.05:
            for side in (-1, 1):
                pen.ellipse((side * 0.45, 0.27 - 0.06 * cheek), (0.16, 0.11 * cheek), self.blush)
        pen.line([(-0.02, -0.02), (0.06, 0.24), (-0.05, 0.26)], self.shade, 0.04)

    def _eyes(self, pen: _Pen, motion: Motion, frame: int) -> None:
        person = self.person
        eye, gaze = motion.eye[frame], motion.gaze[frame]
        size, tall = person.eye_size, person.eye_size * 0.72 * eye
        lift, tilt = motion.brow[frame] * 0.3, motion.tilt[frame] * 0.16
        for side in (-1, 1):
            x, y = side * person.eye_distance, -0.12
            pen.ellipse((x, y), (size, tall), (246, 246, 242))
            iris = min(size * 0.55, tall * 0.95)
            pen.ellipse((x + gaze[0] * size * 0.4, y + gaze[1] * tall * 0.3), (size * 0.5, iris), person.iris)
            pen.line([(x - size, y), (x, y - tall), (x + size, y)], _scaled(person.hair, 0.6), 0.03)
            brow = y - size * 0.95 - 0.08 - lift
            inner, outer = (x - side * size * 1.05, brow - tilt), (x + side * size * 1.15, brow + tilt * 0.6)
            pen.line([inner, (x, brow - 0.03), outer], _scaled(person.hair, 0.8), person.brow_thickness)

    def _mouth(self, pen: _Pen, curve: float, opening: float) -> None:
        width = self.person.mouth_width * (1 + 0.12 * max(curve, 0.0))
        middle = 0.5 + 0.2 * curve * (0.5 - LIP**2)  # y points down: corners rise with the curve
        gap = opening * (1 - LIP**2)
        upper = np.stack((LIP * width, middle - 0.4 * gap), axis=-1)
        lower = np.stack((LIP * width, middle + gap), axis=-1)
        pen.polygon(np.concatenate((upper, lower[::-1])), (70, 22, 28))
        pen.line(upper, self.lips, 0.055)
        pen.line(lower, self.lips, 0.06)


class _Pen:
    """Pillow's shapes in face coordinates: x to the right, y down, 1 = the head's half height, turned and moved."""

    def __init__(self, draw: ImageDraw.ImageDraw, middle: np.ndarray, turn: np.ndarray, radius: float) -> None:
        self._draw, self._middle, self._turn, self._radius = draw, middle, turn, radius

    def _place(self, points: object) -> list[tuple[float, float]]:
        placed = np.asarray(points, dtype=float) @ self._turn + self._middle
        return [(x, y) for x, y in placed.tolist()]

    def polygon(self, points: object, fill: Colour) -> None:
        self._draw.polygon(self._place(points), fill=fill)

    def ellipse(self, centre: tuple[float, float], radii: tuple[float, float], fill: Colour) -> None:
        self.polygon(CIRCLE * radii + centre, fill)

    def line(self, points: object, fill: Colour, width: float) -> None:
        self._draw.line(self._place(points), fill=fill, width=max(1, round(width * self._radius)), joint="curve")


def _scaled(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, round(channel * factor)) for channel in colour)
    return (red, green, blue)


def _blend(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round((1 - share) * a + share * b) for a, b in zip(one, other, strict=True))
    return (red, green, blue)
