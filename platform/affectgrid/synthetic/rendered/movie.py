"""Pictures and sound to one video file, the same bytes for the same input."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float, UInt8


def write_movie(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "height width 3"]],
    *,
    rate_hz: Fraction,
    size: tuple[int, int],
    sound: Float[np.ndarray, " sample"] | None,
    sound_rate_hz: int,
    stored_as: tuple[int, str],
) -> None:
    """Encode H.264 and, unless ``sound`` is None, AAC.

    Args:
        path: its suffix picks the container.
        frames: RGB, all of ``size`` = (width, height), ``rate_hz`` of them a second.
        sound: mono, in [-1, 1], at ``sound_rate_hz``.
        stored_as: the sound stream's sample rate in Hz and its layout, ``mono`` or ``stereo``.
    """
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:  # no time stamp of its making
        picture = container.add_stream("libx264", rate=rate_hz)
        picture.width, picture.height, picture.pix_fmt = *size, "yuv420p"
        picture.codec_context.thread_count = 1  # the bytes depend on the number of threads
        # AVI has no presentation times, so there the order of frames must not change
        reorder = 0 if path.suffix == ".avi" else 2
        options = {"preset": "ultrafast", "crf": "23", "threads": "1", "flags": "+bitexact", "bf": str(reorder)}
        picture.options = options | {"g": str(max(1, round(2 * rate_hz)))}
        voice = None
        if sound is not None:
            voice = container.add_stream("aac", rate=stored_as[0], layout=stored_as[1], options={"flags": "+bitexact"})
            voice.bit_rate = 64_000
        for frame in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(picture.encode(None))
        if voice is not None and sound is not None:
            block = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), format="fltp", layout="mono")
            block.sample_rate, block.pts = sound_rate_hz, 0
            container.mux(voice.encode(block))
            container.mux(voice.encode(None))
