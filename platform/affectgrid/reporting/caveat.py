"""What must stand beside every score that says nothing about people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from affectgrid.data.features.streams import look_ahead_s


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
    """One sentence where a causal model gets the future with its features; else empty.

    Args:
        encoders: of a split, a study or a model package.
        causal: whether the model is, or one of several.
    """
    ahead_s = look_ahead_s(encoders) if causal else 0.0
    if not ahead_s:
        return ""
    return f"The model is causal, but its features look up to {ahead_s:.2g} s ahead: encode with --encode.causal."


def look_ahead(encoders: Mapping[str, str]) -> str:
    """How far the features of a split, a study or a model package look ahead; empty where it is not known."""
    ahead_s = look_ahead_s(encoders)
    if ahead_s is None:
        return ""
    return f"up to {ahead_s:.2g} s later than their frame" if ahead_s else "causal: nothing later than their frame"
