"""Films to measure on: moving, textured and made in seconds; or hours long and made by repeating packets."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

RATE_HZ = 30


def draw_film(path: Path, *, num_frames: int, height: int) -> Path:
    """H.264 as cameras and web sites give it (keyframes 2 s apart, B-frames), about 2 Mbit/s at 480p."""
    if path.exists():
        return path
    width = height * 4 // 3 if height <= 480 else height * 16 // 9
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 16, width // 8, 3), dtype=np.uint8))
    scene = np.asarray(coarse.resize((2 * width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    grain = rng.integers(-13, 14, (8, height, width, 1), dtype=np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    with av.open(str(draft), "w", format="mp4") as container:
        options = {"preset": "veryfast", "crf": "23", "g": "60"}
        stream = container.add_stream("libx264", rate=RATE_HZ, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(num_frames):
            left = (3 * number) % width
            rgb = np.clip(scene[:, left : left + width] + grain[number % 8], 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    draft.rename(path)
    return path


def repeat_film(path: Path, *, minutes: float, height: int = 720, rate_hz: int = 12) -> Path:
    """A still 720p picture for any time: one group of pictures is encoded, and its packets are written again."""
    width = height * 16 // 9
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 16, 3), dtype=np.uint8))
    picture = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    group = 10 * rate_hz
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=rate_hz, options={"preset": "veryfast", "g": str(group), "bf": "0"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        packets = []
        for number in range(group):
            frame.pts, frame.time_base = number, Fraction(1, rate_hz)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        base = packets[0].time_base
        step = round(Fraction(1, rate_hz) / base)
        contents = [(bytes(packet), packet.is_keyframe) for packet in packets]
        for number in range(int(minutes * 60 * rate_hz)):
            data, key = contents[number % group]
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, base, key
            packet.pts = packet.dts = number * step
            packet.duration = step
            container.mux(packet)
    return path


def add_sound(film: Path, path: Path, *, sample_rate_hz: int = 44_100) -> Path:
    """The film's packets beside a tone as long as it, as AAC."""
    with av.open(str(film)) as source, av.open(str(path), "w") as target:
        pictures = source.streams.video[0]
        copied = target.add_stream_from_template(pictures)
        sound = target.add_stream("aac", rate=sample_rate_hz, layout="stereo")
        duration_s = float(pictures.duration * pictures.time_base)
        time = np.arange(int(duration_s * sample_rate_hz)) / sample_rate_hz
        wave = np.tile(0.3 * np.sin(2 * np.pi * 220 * time), (2, 1)).astype(np.float32)
        tone = av.AudioFrame.from_ndarray(wave, format="fltp", layout="stereo")
        tone.sample_rate, tone.pts = sample_rate_hz, 0
        for packet in [*sound.encode(tone), *sound.encode(None)]:
            target.mux(packet)
        for packet in source.demux(pictures):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    return path
