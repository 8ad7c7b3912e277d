"""Time budgets: durations as people write them, and the time that trials have taken so far."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable

_UNITS_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|min|m|s)")
DURATION = r"^\s*(\d+(\.\d+)?\s*(d|h|min|m|s)\s*)+$"


def seconds(duration: float | str) -> float:
    """``90`` is minutes; ``'2h'``, ``'1h 30min'``, ``'45s'`` and ``'1.5d'`` say their unit. Raises ValueError."""
    if isinstance(duration, str) and re.fullmatch(r"\s*\d+(\.\d+)?\s*", duration):
        duration = float(duration)
    if isinstance(duration, str) and not re.match(DURATION, duration):
        raise ValueError(f"{duration!r} is not a duration; write 2h, 90min, 1h 30min or a number of minutes")
    if isinstance(duration, str):
        total = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(duration))
    else:
        total = 60.0 * duration
    if total <= 0:
        raise ValueError(f"a budget of {duration!r} leaves no time; give more than 0")
    return total


def busy_s(spans: Iterable[tuple[str, float]]) -> float:
    """The time in which at least one trial ran: parallel trials count once, the gap before a resume not at all.

    Args:
        spans: when a trial began, as ISO text with its time zone, and how many seconds it took.
    """
    moments = sorted((datetime.datetime.fromisoformat(began).timestamp(), length_s) for began, length_s in spans)
    total, reached = 0.0, float("-inf")
    for began, length_s in moments:
        end = began + length_s
        total += max(0.0, end - max(began, reached))
        reached = max(reached, end)
    return total
