"""What must stand beside every score that says nothing about people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from affectgrid.data.features.streams import AudioStream


def caveat(encoders: Iterable[str], *, rendered: bool = False) -> str:
    """One sentence where encoders are untrained, features are synthetic or faces are drawn; else empty.

    Args:
        encoders: names of those that made the features, of any stream and model.
        rendered: whether the videos are those of the rendered corpus.
    """
    used = set(encoders)
    words = ["untrained `tiny` encoders"] if "tiny" in used else []
    words += ["synthetic features"] if "synthetic" in used else []
    words += ["the rendered corpus"] if rendered else []
    return f"Made with {' on '.join(words)}: it shows that the platform works, not how people feel." if words else ""


def look_ahead_caveat(encoders: Mapping[str, str], *, causal: bool) -> str:
    """One sentence where a causal model hears the future in its features; else empty.

    Args:
        encoders: of a model package or split.
        causal: whether the model is.
    """
    if not causal or "audio_stream" not in encoders:
        return ""
    ahead_s = AudioStream.model_validate_json(encoders["audio_stream"]).look_ahead_s
    hint = "encode with --encode.audio.causal True --encode.visual.causal True"
    return f"The model is causal, but its sound is heard up to {ahead_s:.2g} s ahead: {hint}." if ahead_s else ""
