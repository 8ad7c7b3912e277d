"""The detectors of faces side by side on real clips: recall, false alarms, time. See docs/benchmarks.md."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from affectgrid.errors import MediaError
from affectgrid.media.faces import FaceBox, FaceDetector, load_detector
from affectgrid.media.frames import FrameReader
from affectgrid.media.video import probe_video

PEOPLE = {  # positions of frames, spread over the clip, in each of which one face is looked for
    "obama_speech.mp4": range(0, 105, 9),  # 320 x 240, the speaker's face 55 pixels wide
    "single_face.mp4": range(0, 72, 6),  # 640 x 360
    "carphone_pristine.mp4": range(0, 120, 10),  # 176 x 144
}
TURNED = {"WolfgangLanger_Pexels.mp4": range(300, 472, 8), "carphone_pristine.mp4": range(60, 120, 4)}
HANDS = {"WolfgangLanger_Pexels.mp4": range(50, 220, 8)}
NOBODY = {"no_face.mp4": range(0, 96, 8), "bigbuckbunny.mp4": range(0, 130, 10)}
Change = Callable[[Image.Image, FaceBox], tuple[Image.Image, FaceBox]]


@pytest.fixture(scope="module")
def detectors() -> dict[str, FaceDetector]:
    try:
        return {"dlib": load_detector("dlib"), "mtcnn": load_detector("mtcnn")}
    except MediaError as error:
        pytest.skip(str(error))


def frames(media: Path, clips: dict[str, range]) -> list[Image.Image]:
    """The pictures at these positions."""
    return [
        Image.fromarray(rgb)
        for name, positions in clips.items()
        for _, _, rgb in FrameReader(media / name, probe_video(media / name)).read(list(positions))
    ]


def overlap(first: FaceBox, second: FaceBox) -> float:
    """Intersection over union."""
    across = min(first.right, second.right) - max(first.left, second.left)
    down = min(first.bottom, second.bottom) - max(first.top, second.top)
    shared = max(across, 0.0) * max(down, 0.0)
    return shared / (first.area + second.area - shared)


def shrink(picture: Image.Image, box: FaceBox, *, width: float) -> tuple[Image.Image, FaceBox]:
    """The picture in a corner of another, so small that the face has this width."""
    scale = width / (box.right - box.left)
    small = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    whole = Image.new("RGB", picture.size, (90, 100, 110))
    whole.paste(small, (0, 0))
    return whole, FaceBox(box.left * scale, box.top * scale, box.right * scale, box.bottom * scale)


def turn(picture: Image.Image, box: FaceBox, *, degrees: float) -> tuple[Image.Image, FaceBox]:
    """The picture turned about the face."""
    centre = ((box.left + box.right) / 2, (box.top + box.bottom) / 2)
    return picture.rotate(degrees, Image.Resampling.BILINEAR, center=centre), box


def cover(picture: Image.Image, box: FaceBox, *, part: tuple[float, ...]) -> tuple[Image.Image, FaceBox]:
    """A grey rectangle over a part of the face: left, top, right, bottom as shares of its box."""
    covered, (width, height) = picture.copy(), (box.right - box.left, box.bottom - box.top)
    corners = [box.left + part[0] * width, box.top + part[1] * height, box.left + part[2] * width]
    ImageDraw.Draw(covered).rectangle((*corners, box.top + part[3] * height), fill=(120, 120, 120))
    return covered, box


def with_references(pictures: list[Image.Image], found: dict[str, list[list[FaceBox]]]) -> list[tuple[int, FaceBox]]:
    """Pictures in which both detectors agree on the largest face, and where it is."""
    agreed = []
    for number, both in enumerate(zip(*found.values(), strict=True)):
        best = [max(boxes, key=lambda box: box.area) for boxes in both if boxes]
        if len(best) == len(found) and overlap(best[0], best[1]) > 0.3:
            names = ("left", "top", "right", "bottom")
            edges = ((getattr(best[0], name) + getattr(best[1], name)) / 2 for name in names)
            agreed.append((number, FaceBox(*edges)))
    return agreed


CHANGES: dict[str, Change] = {
    "as it is": lambda picture, box: (picture, box),
    "48 pixels wide": lambda picture, box: shrink(picture, box, width=48),
    "32 pixels wide": lambda picture, box: shrink(picture, box, width=32),
    "tilted by 20 degrees": lambda picture, box: turn(picture, box, degrees=20),
    "tilted by 40 degrees": lambda picture, box: turn(picture, box, degrees=40),
    "its lower third covered": lambda picture, box: cover(picture, box, part=(0, 0.67, 1, 1)),
    "its left half covered": lambda picture, box: cover(picture, box, part=(0, 0, 0.5, 1)),
}


def test_data_face_recall(say, media: Path, detectors: dict[str, FaceDetector]) -> None:
    """Share of faces that each detector finds; where a picture is changed, of those that both find in it unchanged."""
    pictures = frames(media, PEOPLE)
    whole = {name: [d.detect(np.asarray(p)) for p in pictures] for name, d in detectors.items()}
    known = with_references(pictures, whole)
    assert len(known) > 20
    for change, make in CHANGES.items():
        changed = [make(pictures[number], box) for number, box in known]
        recall = {name: statistics.mean(finds(d, *one) for one in changed) for name, d in detectors.items()}
        tell(say, f"a face {change}", recall, len(changed))
    for what, clips in {"turned aside or down": TURNED, "behind hands": HANDS}.items():
        shown = frames(media, clips)
        found = {n: statistics.mean(bool(d.detect(np.asarray(p))) for p in shown) for n, d in detectors.items()}
        tell(say, f"a face {what}", found, len(shown))
    empty = frames(media, NOBODY)
    alarms = {n: statistics.mean(len(d.detect(np.asarray(p))) for p in empty) for n, d in detectors.items()}
    tell(say, "false alarms in a picture without people", alarms, len(empty), goal="0")


def finds(detector: FaceDetector, picture: Image.Image, box: FaceBox) -> bool:
    """Whether one of its boxes is about where the face is."""
    return any(overlap(box, seen) > 0.3 for seen in detector.detect(np.asarray(picture)))


def tell(say, what: str, shares: dict[str, float], count: int, goal: str = "1") -> None:
    told = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    say(f"data_faces {what}", shares["mtcnn"], f"{told}; {count} pictures", goal)


def test_data_face_speed(say, media: Path, detectors: dict[str, FaceDetector]) -> None:
    """Milliseconds of one thread for a picture: computing time, which other work on the machine hardly changes."""
    (source,) = frames(media, {"single_face.mp4": range(30, 31)})
    for size in ((320, 240), (640, 480), (1280, 720), (1920, 1080)):
        rgb = np.asarray(source.resize(size))
        times, follow = dict[str, float](), dict[str, float]()
        for name, detector in detectors.items():
            times[name] = milliseconds(detector.detect, rgb)
            follow[name] = milliseconds(detector.follow(rgb, detector.detect(rgb)[0]).update, rgb)
        told = "; ".join(f"{name} {times[name]:.1f} ms, following {follow[name]:.1f}" for name in detectors)
        say(f"data_faces {size[0]}x{size[1]}", times["dlib"] / times["mtcnn"], told, "told")


def milliseconds(work: Callable[[np.ndarray], object], rgb: np.ndarray) -> float:
    """Median computing time of this process."""
    times = []
    for _ in range(7):
        started = time.process_time()
        work(rgb)
        times.append(time.process_time() - started)
    return 1e3 * statistics.median(times)
