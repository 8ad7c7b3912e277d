"""The rendered corpus: drawn faces and synthetic voices in Aff-Wild2's layout of folders and files.

Nothing in it is a recording. It is called *rendered* wherever a result made with it is shown.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from affectgrid.errors import CatalogError, Problem
from affectgrid.storage import Storage
from affectgrid.synthetic.rendered.config import RenderConfig
from affectgrid.synthetic.rendered.face import SUPERSAMPLING, FaceArtist, Motion, draw_person, move
from affectgrid.synthetic.rendered.movie import write_movie
from affectgrid.synthetic.rendered.paths import AffectPath, SlowSignal, affect_path, slow_signal
from affectgrid.synthetic.rendered.plan import TrackPlan, VideoPlan, plan_corpus
from affectgrid.synthetic.rendered.publish import draft_folder, publish
from affectgrid.synthetic.rendered.voice import SAMPLE_RATE_HZ, Speech, control_times, draw_voice, speak

VERSION = 1  # raise it with every change of what the same configuration draws
MARKER = "RENDERED.json"
CROP_SIZE = 112
CROP_QUALITY = 90
ANNOTATIONS = {"train": "Train_Set", "validation": "Validation_Set"}
_BATCHES = ("batch2", "batch1")
Progress = Callable[[int, int], None]


def render_corpus(place: Path | str | Storage, config: RenderConfig, *, progress: Progress | None = None) -> None:
    """Render every video that is not there yet, one after the other.

    Writes ``batch1|batch2/<video>``, ``cropped_aligned/<track>/<frame>.jpg`` (in a bucket ``<track>.tar``) and
    ``VA_Estimation_Challenge/<Set>/<track>.txt``. `begin_corpus` and `render_video` are its parts, for those who want
    to render in parallel. ``progress`` is called with (videos done, videos in all).

    Raises CatalogError (REN-OTHER) when there is a corpus of another configuration.
    """
    root = Storage(place)
    plans = begin_corpus(root, config)
    for done, plan in enumerate(plans):
        if progress:
            progress(done, len(plans))
        render_video(root, config, plan)
    if progress:
        progress(len(plans), len(plans))


def begin_corpus(place: Path | str | Storage, config: RenderConfig) -> tuple[VideoPlan, ...]:
    """Write the marker that says what the place is, and return every video that it shall hold.

    Raises CatalogError (REN-OTHER) when there is a corpus of another configuration.
    """
    root, settings = Storage(place), config.model_dump()
    content = {"kind": "rendered", "version": VERSION, "config": settings}
    if root.exists(MARKER):
        found = root.read_json(MARKER)
        if found != content:
            theirs = found.get("config", {})
            different = [name for name, value in settings.items() if theirs.get(name) != value]
            raise CatalogError(
                Problem(
                    "REN-OTHER",
                    where=root.address,
                    found=f"a rendered corpus with other values ({', '.join(different) or 'another version'})",
                    expected="an empty folder or a corpus of the same configuration",
                    hint="take another folder, or delete this one",
                )
            )
    else:
        root.write_json(MARKER, content)
    return plan_corpus(config)


def missing(place: Path | str | Storage, plans: Sequence[VideoPlan]) -> list[VideoPlan]:
    """Those that are not there yet, with all that belongs to them."""
    root = Storage(place)
    there = {f"{batch}/{entry.name}" for batch in _BATCHES for entry in root.list_files(batch)}
    return [plan for plan in plans if video_name(plan) not in there]


def video_name(plan: VideoPlan) -> str:
    """Where a video lies: the data set comes in two batches."""
    return f"{_BATCHES[plan.seed % 2]}/{plan.name}{plan.suffix}"


def render_video(place: Path | str | Storage, config: RenderConfig, plan: VideoPlan) -> bool:
    """Render one video with its crops and annotations; False when it was there.

    The video takes its name last, so its presence means that all of it is there. Processes may render different
    videos of one corpus at once.
    """
    root = Storage(place)
    target = video_name(plan)
    if root.exists(target):
        return False
    with draft_folder(root, plan.name) as draft:
        scene = Scene.draw(config, plan)
        movie = draft / Path(target).name
        write_movie(
            movie,
            scene.frames(draft),
            rate_hz=plan.rate_hz,
            size=(plan.width, plan.height),
            sound=None if plan.sound is None else scene.sound(),
            sound_rate_hz=SAMPLE_RATE_HZ,
            stored_as=plan.sound or (SAMPLE_RATE_HZ, "mono"),
        )
        for actor in scene.actors:
            name = actor.plan.name
            publish(draft / name, root, f"cropped_aligned/{name}")
            if plan.split in ANNOTATIONS:
                text = annotation_text(actor.rated, actor.plan, float(plan.rate_hz))
                root.write(f"VA_Estimation_Challenge/{ANNOTATIONS[plan.split]}/{name}.txt", text)
        publish(movie, root, target)
    return True


def annotation_text(rated: Float[np.ndarray, "frame 2"], plan: TrackPlan, rate_hz: float) -> str:
    """The annotation file: a header, then a line a frame, -5 where the rater gave none."""
    values = rated.copy()
    if plan.scientific:  # a tiny value where the path crosses zero
        near = np.abs(values) < 0.02
        values[near] *= 1e-3
    times_s = np.arange(len(values)) / rate_hz
    for start_s, stop_s in plan.unlabelled:
        values[(times_s >= start_s) & (times_s < stop_s)] = -5
    if plan.extra_lines > 0:
        values = np.concatenate((values, np.repeat(values[-1:], plan.extra_lines, axis=0)))
    elif plan.extra_lines < 0:
        values = values[: plan.extra_lines]
    return "valence,arousal\n" + "".join(f"{valence:.4g},{arousal:.4g}\n" for valence, arousal in values.tolist())


@dataclasses.dataclass(frozen=True)
class Actor:
    """One person of a scene: what the face does, what the voice says, and what the rater wrote."""

    plan: TrackPlan
    artist: FaceArtist
    motion: Motion
    speech: Speech
    rated: Float[np.ndarray, "frame 2"]
    shift: Float[np.ndarray, "frame 2"]
    tracking: Float[np.ndarray, "frame 2"]

    @classmethod
    def draw(cls, config: RenderConfig, plan: TrackPlan, video: VideoPlan, rng: np.random.Generator) -> Actor:
        """Draw a person, a voice and a path, and let both follow it, each behind its own noise."""
        times_s = np.arange(video.num_frames) / float(video.rate_hz)
        person, voice, path = draw_person(rng), draw_voice(rng), affect_path(rng)
        seen = _disguise(rng, path, times_s, (config.seen_valence_noise, config.seen_arousal_noise))
        heard_at = control_times(video.duration_s)
        heard = _disguise(rng, path, heard_at, (config.heard_valence_noise, config.heard_arousal_noise))
        speech = speak(voice, heard, video.duration_s)
        rating = (config.annotator_noise, config.annotator_noise)
        rated = np.clip(_disguise(rng, path, times_s, rating), -1, 1)
        motion = move(person, seen, speech.opening_at(times_s), times_s)
        jitter = [slow_signal(rng, low_hz=0.5, high_hz=3) for _ in range(2)]
        tracking = 0.02 * np.stack([signal(times_s) for signal in jitter], axis=-1)
        return cls(plan, FaceArtist(person), motion, speech, rated, _absence(plan, times_s), tracking)


def _disguise(
    rng: np.random.Generator, path: AffectPath, times_s: Float[np.ndarray, " time"], noise: tuple[float, float]
) -> Float[np.ndarray, "time 2"]:
    """The path with slow disturbances of the given standard deviations: as slow as itself, so no filter parts them."""
    disturbances = [level * slow_signal(rng)(times_s) for level in noise]
    return path(times_s) + np.stack(disturbances, axis=-1)


def _absence(plan: TrackPlan, times_s: Float[np.ndarray, " frame"]) -> Float[np.ndarray, "frame 2"]:
    """How far the face has left its place, in picture widths: 1 while it is away, a slide of 0.4 s before and after."""
    gone = np.zeros(len(times_s))
    for start_s, stop_s in plan.away:
        outside_s = np.maximum(np.maximum(start_s - times_s, times_s - stop_s), 0)
        gone = np.maximum(gone, 1 - np.clip(outside_s / 0.4, 0, 1))
    side = -1 if plan.place[0] < 0.5 else 1
    return np.stack((side * gone, np.zeros_like(gone)), axis=-1)


@dataclasses.dataclass(frozen=True)
class Scene:
    """A video's people before a background, under a light."""

    plan: VideoPlan
    actors: tuple[Actor, ...]
    background: Image.Image
    light: tuple[SlowSignal, ...]
    tint: tuple[float, float, float]
    grain: tuple[Image.Image, ...]

    @classmethod
    def draw(cls, config: RenderConfig, plan: VideoPlan) -> Scene:
        """Draw everything that is random; equal for equal arguments."""
        rng = np.random.default_rng(plan.seed)
        actors = tuple(Actor.draw(config, track, plan, rng) for track in plan.tracks)
        red, green, blue = np.clip(rng.normal(rng.uniform(0.85, 1.08), 0.03, 3), 0.75, 1.15).tolist()
        level = rng.uniform(1, 3)
        grain = tuple(
            Image.fromarray(np.clip(rng.normal(128, level, (plan.height, plan.width, 3)), 0, 255).astype(np.uint8))
            for _ in range(5)
        )
        return cls(
            plan, actors, _background(rng, plan.width, plan.height), (slow_signal(rng),), (red, green, blue), grain
        )

    def sound(self) -> Float[np.ndarray, " sample"]:
        """Everybody's voice, summed."""
        total = np.sum([actor.speech.sound for actor in self.actors], axis=0)
        return np.asarray(np.clip(total, -1, 1), dtype=np.float32)

    def frames(self, crops: Path) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Draw frame after frame, and write each face's crop under ``crops/<track>/`` on the way."""
        for actor in self.actors:
            (crops / actor.plan.name).mkdir()
        times_s = np.arange(self.plan.num_frames) / float(self.plan.rate_hz)
        brightness = 1 + 0.05 * self.light[0](times_s)
        for index in range(self.plan.num_frames):
            picture = self._picture(index, float(brightness[index]))
            for actor in self.actors:
                crop = self._crop(picture, actor, index)
                if crop is not None:
                    crop.save(crops / actor.plan.name / f"{index + 1:05d}.jpg", quality=CROP_QUALITY)
            yield np.asarray(picture)

    def _picture(self, index: int, brightness: float) -> Image.Image:
        canvas = self.background.copy()
        for actor in self.actors:
            actor.artist.draw(canvas, actor.motion, index, self._centre(actor, index), self._half_height())
        picture = canvas.reduce(SUPERSAMPLING)
        lit = picture.point(_light_curve(self.tint, round(brightness, 2)))
        return ImageChops.add(lit, self.grain[index % len(self.grain)], scale=1, offset=-128)

    def _half_height(self) -> float:
        return 0.30 * self.plan.height

    def _centre(self, actor: Actor, index: int) -> tuple[float, float]:
        x, y = np.array(actor.plan.place) + actor.shift[index]
        return float(x * self.plan.width), float(y * self.plan.height)

    def _crop(self, picture: Image.Image, actor: Actor, index: int) -> Image.Image | None:
        """The face as a tracker would cut it out, a little beside; None where most of it is out of the picture."""
        half = 1.12 * self._half_height() * float(actor.motion.size[index])
        drift = (actor.motion.offset[index] + actor.tracking[index]) * self._half_height()
        x, y = np.array(self._centre(actor, index)) + drift
        if not 0.3 * half < x < self.plan.width - 0.3 * half:
            return None
        box = (round(x - half), round(y - half), round(x + half), round(y + half))
        return picture.crop(box).resize((CROP_SIZE, CROP_SIZE), Image.Resampling.BILINEAR)


@functools.lru_cache(maxsize=64)
def _light_curve(tint: tuple[float, float, float], brightness: float) -> list[int]:
    """Pillow's lookup table: red, green and blue values under a light."""
    return [min(255, round(value * brightness * colour)) for colour in tint for value in range(256)]


def _background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A blurred room: a colour, and some things in it."""
    size = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    base = rng.integers(70, 190) + rng.integers(-25, 26, 3)
    room = Image.new("RGB", size, tuple(base.tolist()))
    pen = ImageDraw.Draw(room)
    for _ in range(8):
        left, top = rng.uniform(-0.2, 0.9, 2) * size
        right, bottom = np.array((left, top)) + rng.uniform(0.1, 0.5, 2) * size
        colour = np.clip(base + rng.integers(-40, 41) + rng.integers(-20, 21, 3), 0, 255)
        pen.rectangle((left, top, right, bottom), fill=tuple(colour.tolist()))
    return room.filter(ImageFilter.GaussianBlur(6))
