"""How long a user waits for a prediction: of a short clip, of a long one by stage, and of a live picture."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.encoders.audio import load_audio
from affectgrid.encoders.visual import load_visual
from affectgrid.media.audio import read_audio
from affectgrid.media.faces import FaceTracker, crop_face, load_detector
from affectgrid.media.frames import FrameReader
from affectgrid.media.video import probe_video
from affectgrid.regions import RegionGrid
from affectgrid.reporting.look.live import LivePrediction, follow
from affectgrid.training.build import build_model
from affectgrid.training.config import TrainConfig
from affectgrid.training.inference.live import LiveModel
from affectgrid.training.inference.package import ModelPackage, save_package
from support.processes import REPOSITORY

LIVE_S, LIVE_HZ = 20, 25


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    """A causal model of the default size, untrained: speed needs no training."""
    config = TrainConfig.model_validate({"model": {"temporal": "gru"}, "prompt": {"mode": "none"}})
    dims = {"visual": load_visual("tiny", trusted=True).dim, "audio": load_audio("tiny").dim}
    visual, audio = VisualStream(crop="detect", causal=True), AudioStream(causal=True)
    encoders = {"visual_stream": visual.model_dump_json(), "audio_stream": audio.model_dump_json()}
    encoders |= {"visual": "tiny", "audio": "tiny"}
    model = build_model(config, dims=dims, prompts=None).eval()
    return ModelPackage(model, config, RegionGrid.square(3), encoders, {})


def test_predict_first(say: Callable[..., None], package: ModelPackage, media: Path, tmp_path: Path) -> None:
    """The command on 9 s of 320 x 240, from its start to its end, with nothing encoded before."""
    model = save_package(
        tmp_path / "m", package.model, package.config, package.grid, encoders=package.encoders, metrics={}
    )
    times = []
    for number in range(3):
        command = ["jobs/predict.py", media / "obama_speech.mp4", "--model", model, "--out", tmp_path / str(number)]
        started = time.perf_counter()
        subprocess.run([sys.executable, *map(str, command)], cwd=REPOSITORY, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    started = time.perf_counter()
    imports = "import affectgrid.distributed.predict, affectgrid.training.inference.ensemble"
    subprocess.run([sys.executable, "-c", imports], cwd=REPOSITORY, check=True)
    imported_s = time.perf_counter() - started
    figures = f"{min(times):.1f} to {max(times):.1f} s over 10 s; imports alone {imported_s:.1f} s"
    say("predict_first", float(np.median(times)) / 10, figures, "< 1")


def test_predict_stages(say: Callable[..., None], package: ModelPackage, media: Path) -> None:
    """Seconds of work per second of video, one thread."""
    torch.set_num_threads(1)
    path = media / "obama_speech.mp4"
    info = probe_video(path)
    length_s = float(info.frame_times_s[-1])
    clocks: dict[str, float] = {}
    with FrameReader(path, info) as reader:
        started = time.perf_counter()
        frames = [rgb for _, _, rgb in reader.read(range(info.num_frames))]
        clocks["decode"] = time.perf_counter() - started
    tracker, started = FaceTracker(load_detector("dlib")), time.perf_counter()
    boxes = [tracker.find(number, rgb) for number, rgb in enumerate(frames)]
    clocks["faces"] = time.perf_counter() - started
    visual, audio = load_visual("tiny", trusted=True), load_audio("tiny", window_s=1.0, trusted=True)
    started = time.perf_counter()
    crops = [crop_face(rgb, box) for rgb, box in zip(frames, boxes, strict=True) if box]
    pictures = visual.encode_images(np.stack([visual.preprocess(crop) for crop in crops]))
    clocks["pictures"] = time.perf_counter() - started
    started = time.perf_counter()
    sound, _ = read_audio(path, 0.0, length_s)
    hops = audio.encode_sound(sound, np.arange(0, len(sound) - 16_000, 3200))
    clocks["sound"] = time.perf_counter() - started
    model, started = LiveModel(package), time.perf_counter()
    model.add_frames(info.frame_times_s[: len(pictures)], np.ones(len(pictures), bool), pictures.numpy())
    model.add_hops(np.arange(len(hops)) * 0.2, np.ones(len(hops), bool), hops.numpy())
    model.predict(len(pictures))
    clocks["model"] = time.perf_counter() - started
    figures = ", ".join(f"{name} {seconds / length_s:.3f}" for name, seconds in clocks.items())
    say(
        "predict_stages",
        sum(clocks.values()) / length_s,
        f"{figures}; tiny encoders, {info.width}x{info.height}",
        "< 1",
    )


def test_predict_live(say: Callable[..., None], package: ModelPackage, media: Path, tmp_path: Path) -> None:
    """640 x 480 at 25 frames/s with a face and sound, as a camera would give it."""
    film = _film(media / "obama_speech.mp4", tmp_path / "live.mp4")
    got = list(follow(str(film), package, seconds=None, detect_every=3))
    frames = [one for one in got if isinstance(one, LivePrediction)]
    dropped = got[-1]
    assert isinstance(dropped, int)
    assert len(frames) + dropped == LIVE_S * LIVE_HZ
    half, most = np.quantile([one.latency_s for one in frames], (0.5, 0.95))
    figures = f"{half:.3f} s, 95 % within {most:.3f} s; {dropped} of {LIVE_S * LIVE_HZ} frames dropped"
    say("predict_live", most / 0.3, f"latency {figures}", "< 1")


def _film(source: Path, path: Path) -> Path:
    """The clip, scaled up, at 25 frames/s, again and again, with its sound."""
    info = probe_video(source)
    with FrameReader(source, info) as reader:
        pictures = [rgb for _, _, rgb in reader.read(range(info.num_frames))]
    sound, _ = read_audio(source, 0.0, float(info.frame_times_s[-1]))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=LIVE_HZ, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        voice = container.add_stream("aac", rate=16_000, layout="mono")
        for number in range(LIVE_S * LIVE_HZ):
            rgb = pictures[number * 12 // LIVE_HZ % len(pictures)]
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(640, 480, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, LIVE_HZ)
            container.mux(stream.encode(frame))
        whole = np.resize(sound, LIVE_S * 16_000)
        samples = av.AudioFrame.from_ndarray(whole[None], format="fltp", layout="mono")
        samples.sample_rate, samples.pts, samples.time_base = 16_000, 0, Fraction(1, 16_000)
        container.mux(voice.encode(samples))
        for one in (stream, voice):
            container.mux(one.encode(None))
    return path
