"""The errors that a user may meet: what was found, where, what was expected, and a hint."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Literal

from affectgrid.credentials import without_credentials

Severity = Literal["error", "warning"]


@dataclasses.dataclass(frozen=True)
class Problem:
    """One finding about the user's input.

    Args:
        code: stable and searchable, e.g. ``ANN-HEADER``.
        where: ``path`` or ``path:line``, or the name of a setting.
        found: what is there.
        expected: what should be there.
        hint: the next step that fixes it.
        severity: a ``warning`` lets the work continue.
    """

    code: str
    where: str
    found: str
    expected: str
    hint: str
    severity: Severity = "error"

    def __post_init__(self) -> None:
        for name in ("where", "found", "expected", "hint"):
            text = without_credentials(getattr(self, name))  # an address in them may hold a key or a password
            # a file's name may hold bytes that are no text: in a message they stand as \udc80 and the like
            object.__setattr__(self, name, text.encode("utf-8", "backslashreplace").decode())

    def __str__(self) -> str:
        return f"{self.code} {self.where}: {self.found}; expected {self.expected}; {self.hint}"


class AffectGridError(Exception):
    """Base of every error that bad input can cause. ``problems`` holds at least one finding."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type[AffectGridError], tuple[Problem, ...]]:
        return (type(self), self.problems)  # the default would pass the message, and break when pickled


class AnnotationError(AffectGridError):
    """An annotation file is missing or malformed."""


class MediaError(AffectGridError):
    """A video, a sound track or a face crop cannot be read."""


class CatalogError(AffectGridError):
    """The folders of a data set do not match."""


class ConfigError(AffectGridError):
    """A setting, a search space or a grid file is wrong."""


class StoreError(AffectGridError):
    """A feature file is missing or damaged, or the store cannot be written."""


class ModelError(AffectGridError):
    """Weights or an encoder cannot be loaded."""


class TrainingError(AffectGridError):
    """A run cannot continue: its loss is NaN, or there is nothing to learn from."""


class TrackingError(AffectGridError):
    """The experiment log cannot be reached or written."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` for the closest known name, or the list of what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
