"""What must stand beside every score that says nothing about people."""

from __future__ import annotations

from collections.abc import Iterable


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
