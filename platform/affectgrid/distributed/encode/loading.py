"""The streams of a run: their encoders, with the precision chosen on the run's own pictures and sounds."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from affectgrid.data.catalog import Track
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import AudioStream, Stream, VisualStream, describe, fingerprint
from affectgrid.distributed.encode.decoding import StreamJob
from affectgrid.distributed.encode.sandbox import Limits, guarded
from affectgrid.encoders.audio import AudioEncoder, load_audio
from affectgrid.encoders.preprocess import ImagePreprocess
from affectgrid.encoders.runtime.choice import choose
from affectgrid.encoders.runtime.precision import Resolved
from affectgrid.encoders.visual import VisualEncoder, load_visual
from affectgrid.errors import ConfigError, MediaError, Problem
from affectgrid.media.chunks import FrameChunk, SoundChunk, read_sound_chunk, read_visual_chunk
from affectgrid.storage import Storage, cache_folder

log = logging.getLogger(__name__)

_SAMPLES = 8  # pictures, or windows of sound, each from another track where there are as many
_SAMPLES_INT8 = 64
_EARLY_FRAME = 12  # past a black first picture, and no long decode away
_EARLY_HOP = 5
_TURNS = 8  # places in a track, each about twice as far as the one before


def stream_jobs(
    visual: VisualStream,
    audio: AudioStream,
    tracks: Sequence[Track],
    limits: Limits,
    store: FeatureStore,
    *,
    half: Resolved | None = None,
    dry: bool = False,
) -> dict[str, StreamJob]:
    """Load both encoders, with the runtime and precision that are asked for. Raises ModelError, ConfigError.

    A stream that `store` already has features of keeps its precision. Real samples are read only where there is a
    choice to make. An int8 model is kept in the store; if `dry` a new one is kept in this node's cache.

    `half` is the half type of the GPUs that will encode, which precision ``auto`` takes where it pays, even where this
    process has none; ask for fp16 on GPUs older than Ampere. None: no GPU will.
    """
    images = load_visual(visual.model)
    sounds = load_audio(audio.model, window_s=audio.window_s, layer=audio.layer, pooling=audio.pooling)

    def pictures(count: int) -> np.ndarray | None:
        return sample_pictures(visual, tracks, limits, images.preprocess, count)

    def windows(count: int) -> np.ndarray | None:
        return sample_sounds(audio, tracks, limits, count)

    places = [store.storage, *([Storage(cache_folder())] if dry else [])]
    return {
        "visual": _job(visual, images, store, places, pictures, half),
        "audio": _job(audio, sounds, store, places, windows, half),
    }


def _job(
    stream: Stream,
    encoder: VisualEncoder | AudioEncoder,
    store: FeatureStore,
    places: Sequence[Storage],
    sample: Callable[[int], np.ndarray | None],
    half: Resolved | None,
) -> StreamJob:
    if half is not None and stream.runtime == "openvino":
        raise ConfigError(_no_processors(stream))
    quantised = choose(
        encoder,
        stream.runtime,
        stream.precision,
        sample=lambda: sample(_SAMPLES_INT8 if stream.precision == "int8" else _SAMPLES),
        half=half,
        stored=lambda digest: fingerprint(stream, digest) in store.fingerprints(stream.kind),
        places=places,
    )
    preprocess = encoder.preprocess if isinstance(encoder, VisualEncoder) else None
    spec, name = describe(stream, encoder.digest), fingerprint(stream, encoder.digest)
    return StreamJob(stream, name, preprocess, encoder.dim, spec, encoder.precision, quantised)


def _no_processors(stream: Stream) -> Problem:
    return Problem(
        "CFG-RUNTIME",
        where=f"encode.{stream.kind}.runtime",
        found="openvino, which computes on processors, in a cluster with GPUs",
        expected="torch there",
        hint="take runtime torch, or start Ray with --num-gpus=0",
    )


def sample_pictures(
    stream: VisualStream, tracks: Sequence[Track], limits: Limits, preprocess: ImagePreprocess, count: int
) -> UInt8[np.ndarray, "n 3 size size"] | None:
    """At most `count` pictures, as they will be encoded, of as many tracks as can be; None where none can be read."""
    found = list(itertools.islice(_pictures(stream, _places(tracks, count), limits), count))
    return np.stack([preprocess(picture) for picture in found]) if found else None


def _places(tracks: Sequence[Track], count: int) -> Iterator[tuple[Track, int]]:
    """Tracks from the whole list, each with 0, then each with 1, ...; more than needed, for some cannot be read."""
    chosen = tracks[:: max(1, len(tracks) // (2 * count))][: 4 * count]
    return ((track, turn) for turn in range(_TURNS) for track in chosen)


def _pictures(
    stream: VisualStream, places: Iterator[tuple[Track, int]], limits: Limits
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    for track, turn in places:
        video, crops = (None if path is None else str(path) for path in (track.video, track.crops))
        start = _EARLY_FRAME * (2**turn - 1)
        try:
            frames: FrameChunk = guarded(
                limits, read_visual_chunk, video, crops if stream.crop == "crops" else None,
                start, start + _EARLY_FRAME, crop=stream.crop, margin=stream.margin, person=track.person,
                detector=stream.detector, upright=stream.upright,
            )  # fmt: skip
        except MediaError as error:  # reported when the track's turn comes
            log.debug("no calibration picture from %s: %s", track.id, error)
            continue
        yield from frames.images[-1:]


def sample_sounds(
    stream: AudioStream, tracks: Sequence[Track], limits: Limits, count: int
) -> Float[np.ndarray, "n sample"] | None:
    """At most `count` windows of sound of as many tracks as can be; None where there is no sound."""
    found = list(itertools.islice(_sounds(stream, _places(tracks, count), limits), count))
    return np.stack(found) if found else None


def _sounds(
    stream: AudioStream, places: Iterator[tuple[Track, int]], limits: Limits
) -> Iterator[Float[np.ndarray, "sample"]]:
    for track, turn in places:
        hop = _EARLY_HOP * 2**turn
        try:
            piece: SoundChunk = guarded(
                limits, read_sound_chunk, track.video and str(track.video), hop, hop + 1,
                hop_s=stream.hop_s, window_s=stream.window_s, sample_rate_hz=stream.sample_rate_hz,
                causal=stream.causal,
            )  # fmt: skip
        except MediaError as error:
            log.debug("no calibration sound from %s: %s", track.id, error)
            continue
        if piece.present.all():
            yield piece.sound
