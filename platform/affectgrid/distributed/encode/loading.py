"""The streams of a run: their encoders, with the precision chosen on the run's own pictures and sounds."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from affectgrid.data.catalog import Track
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import AudioStream, Stream, VisualStream, describe, fingerprint
from affectgrid.distributed.encode.decoding import StreamJob
from affectgrid.distributed.encode.sandbox import Limits, guarded
from affectgrid.encoders.audio import AudioEncoder, load_audio
from affectgrid.encoders.precision import Resolved
from affectgrid.encoders.preprocess import ImagePreprocess
from affectgrid.encoders.visual import VisualEncoder, load_visual
from affectgrid.errors import MediaError
from affectgrid.media.chunks import FrameChunk, SoundChunk, read_sound_chunk, read_visual_chunk

log = logging.getLogger(__name__)

_SAMPLES = 8  # pictures, or windows of sound, each from another track where there are as many
_EARLY_FRAME = 12  # past a black first picture, and no long decode away


def stream_jobs(
    visual: VisualStream,
    audio: AudioStream,
    tracks: Sequence[Track],
    limits: Limits,
    store: FeatureStore,
    *,
    half: Resolved | None = None,
) -> dict[str, StreamJob]:
    """Load both encoders, and round their weights where that pays and is harmless. Raises ModelError.

    A stream that `store` already has features of keeps its precision.

    `half` is what precision ``auto`` takes where it pays: a cluster with GPUs uses their bf16 even where this process
    has no GPU. Ask for fp16 on GPUs older than Ampere. None: what this process has. Real samples are read only where
    there is a choice to make.
    """
    images = load_visual(
        visual.model,
        precision=visual.precision,
        half=half,
        calibration=lambda preprocess: sample_pictures(visual, tracks, limits, preprocess),
        stored=lambda digest: fingerprint(visual, digest) in store.fingerprints("visual"),
    )
    sounds = load_audio(
        audio.model,
        window_s=audio.window_s,
        layer=audio.layer,
        pooling=audio.pooling,
        precision=audio.precision,
        half=half,
        calibration=lambda: sample_sounds(audio, tracks, limits),
        stored=lambda digest: fingerprint(audio, digest) in store.fingerprints("audio"),
    )
    return {"visual": _job(visual, images, images.preprocess), "audio": _job(audio, sounds, None)}


def _job(stream: Stream, encoder: VisualEncoder | AudioEncoder, preprocess: ImagePreprocess | None) -> StreamJob:
    resolved = stream.model_copy(update={"precision": encoder.precision})
    spec = describe(resolved, encoder.digest)
    return StreamJob(resolved, fingerprint(resolved, encoder.digest), preprocess, encoder.dim, spec)


def sample_pictures(
    stream: VisualStream, tracks: Sequence[Track], limits: Limits, preprocess: ImagePreprocess
) -> UInt8[np.ndarray, "n 3 size size"] | None:
    """A picture each of some tracks, as they will be encoded; None where none can be read."""
    found = list(itertools.islice(_pictures(stream, tracks, limits), _SAMPLES))
    return np.stack([preprocess(picture) for picture in found]) if found else None


def _pictures(stream: VisualStream, tracks: Sequence[Track], limits: Limits) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    for track in tracks[: 4 * _SAMPLES]:
        video, crops = (None if path is None else str(path) for path in (track.video, track.crops))
        try:
            frames: FrameChunk = guarded(
                limits, read_visual_chunk, video, crops if stream.crop == "crops" else None, 0, _EARLY_FRAME,
                crop=stream.crop, margin=stream.margin, person=track.person,
            )  # fmt: skip
        except MediaError as error:  # reported when the track's turn comes
            log.debug("no calibration picture from %s: %s", track.id, error)
            continue
        yield from frames.images[-1:]


def sample_sounds(stream: AudioStream, tracks: Sequence[Track], limits: Limits) -> Float[np.ndarray, "n sample"] | None:
    """A window of sound each of some tracks; None where there is no sound."""
    found = list(itertools.islice(_sounds(stream, tracks, limits), _SAMPLES))
    return np.stack(found) if found else None


def _sounds(stream: AudioStream, tracks: Sequence[Track], limits: Limits) -> Iterator[Float[np.ndarray, "sample"]]:
    for track in tracks[: 4 * _SAMPLES]:
        try:
            piece: SoundChunk = guarded(
                limits, read_sound_chunk, track.video and str(track.video), 5, 6,
                hop_s=stream.hop_s, window_s=stream.window_s, sample_rate_hz=stream.sample_rate_hz,
                causal=stream.causal,
            )  # fmt: skip
        except MediaError as error:
            log.debug("no calibration sound from %s: %s", track.id, error)
            continue
        if piece.present.all():
            yield piece.sound
