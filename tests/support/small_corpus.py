"""The smallest whole corpus: two tracks with video, sound, crops and labels; and its parts, to be broken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import av
import numpy as np
from PIL import Image

from affectgrid.data.annotations import Annotation, write_annotation

NUM_FRAMES, RATE_HZ, SOUND_HZ = 100, 25, 16000
VARIED = np.stack([np.linspace(-1, 1, NUM_FRAMES), np.linspace(1, -0.5, NUM_FRAMES)], axis=1)
SPLITS = {"a": "Train_Set", "b": "Validation_Set"}


def write_corpus(root: Path) -> Path:
    """Tracks a (train) and b (validation), in which nothing is wrong."""
    for seed, track in enumerate(SPLITS):  # the same noise in both would be a leak
        film(root / f"videos/{track}.mp4", sound_s=NUM_FRAMES / RATE_HZ, seed=seed)
        crops(root / f"cropped_aligned/{track}", range(1, NUM_FRAMES + 1), seed=seed)
        label(labels_of(root, track), VARIED)
    return root


def labels_of(root: Path, track: str) -> Path:
    """The label file of a track."""
    return root / "VA_Estimation_Challenge" / SPLITS.get(track, "Train_Set") / f"{track}.txt"


def label(path: Path, va: np.ndarray, masked: int = 0) -> None:
    """Labels, of which the first are masked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    valid = np.ones(len(va), bool)
    valid[:masked] = False
    write_annotation(path, Annotation(np.asarray(va, np.float32), valid))


def crops(folder: Path, indices: Iterable[int], *, seed: int = 0) -> None:
    """Crops of noise: any of them is larger than a torn one."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in indices:
        noise = np.random.default_rng([seed, index]).integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{index:05}.jpg")


def film(
    path: Path,
    *,
    num_frames: int = NUM_FRAMES,
    sound_s: float = 0.0,
    size: tuple[int, int] = (32, 32),
    codec: str = "mpeg4",
    pts: Sequence[int] | None = None,
    seed: int = 0,
) -> Path:
    """Pictures of noise, at `pts` in frames or one after another, and so many seconds of a tone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    with av.open(str(path), "w") as out:
        audio = out.add_stream("aac", rate=SOUND_HZ, layout="mono") if sound_s else None
        if num_frames:
            stream = out.add_stream(codec, rate=RATE_HZ)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for number in range(num_frames):
                noise = random.integers(0, 255, (size[1], size[0], 3), np.uint8)
                frame = av.VideoFrame.from_ndarray(noise, format="rgb24")
                frame.pts = pts[number] if pts else number
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        if audio:
            wave = 0.5 * np.sin(np.arange(int(sound_s * SOUND_HZ)) / 6)[None].astype(np.float32)
            block = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            block.sample_rate, block.pts = SOUND_HZ, 0
            out.mux(audio.encode(block))
            out.mux(audio.encode(None))
    return path
