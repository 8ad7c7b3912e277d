"""The stages of encoding without anything around them: what one thread of this machine can do at most."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import time
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter

from affectgrid.encoders.preprocess import ImagePreprocess
from affectgrid.encoders.runtime.heap import keep_freed_memory
from affectgrid.encoders.runtime.precision import Resolved
from affectgrid.encoders.visual import load_visual


def decode_and_resize(path: Path, preprocess: ImagePreprocess, limit: int | None = None) -> np.ndarray:
    """Every frame of a film, decoded by one thread, at the encoder's size."""
    images, converter = [], VideoReformatter()  # one: its tables are kept
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            rgb = torch.from_numpy(converter.reformat(frame, format="rgb24").to_ndarray()).permute(2, 0, 1)
            images.append(preprocess.resize(rgb).numpy())
            if len(images) == limit:
                break
    return np.stack(images)


def _encode_frames(path: Path, directory: Path, precision: Resolved, num_frames: int) -> float:
    """Seconds per frame of decode, resize and encode in turn, by one thread, after a batch that loads code."""
    torch.set_num_threads(1)
    keep_freed_memory()
    encoder = load_visual(str(directory), precision=precision, trusted=True)
    encoder.encode_images(decode_and_resize(path, encoder.preprocess, 16))
    started = time.perf_counter()
    images = decode_and_resize(path, encoder.preprocess, num_frames)
    encoder.encode_images(images)
    return (time.perf_counter() - started) / len(images)


def stages_rate_hz(path: Path, directory: Path, precision: Resolved, *, num_frames: int, num_processes: int) -> float:
    """Frames a second that plain processes of one thread reach side by side with all three stages, start-up left out.

    Side by side, because cores that are busy at the same time share memory and clock rate.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(num_processes, mp_context=context) as pool:
        runs = [pool.submit(_encode_frames, path, directory, precision, num_frames) for _ in range(num_processes)]
        return sum(1 / run.result() for run in runs)


def _decode_films(paths: list[Path], preprocess: ImagePreprocess, barrier_s: float) -> tuple[float, float, int]:
    torch.set_num_threads(1)
    decode_and_resize(paths[0], preprocess, 8)  # the first frames load code
    while time.time() < barrier_s:
        time.sleep(0.01)
    started = time.time()
    count = sum(len(decode_and_resize(path, preprocess)) for path in paths)
    return started, time.time(), count


def decode_rate_hz(paths: list[Path], preprocess: ImagePreprocess, *, num_processes: int) -> float:
    """Frames a second that plain processes decode and resize side by side, start-up left out."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(num_processes, mp_context=context) as pool:
        shares = [paths[k::num_processes] for k in range(num_processes)]
        runs = [pool.submit(_decode_films, share, preprocess, time.time() + 15) for share in shares]
        results = [run.result() for run in runs]
    return sum(count for _, _, count in results) / (max(r[1] for r in results) - min(r[0] for r in results))
