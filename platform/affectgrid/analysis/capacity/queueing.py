"""The formulas of waiting and repeating: pieces that begin again after a loss, and servers that end one by one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

Mix = Sequence[tuple[float, float]]  # (how many pieces, seconds of each)
_STEPS = 200
_POINTS = 64  # that stand for a distribution
_ROUNDS = 10  # after more of them pieces of one length are out of step


def with_repeats(length_s: float, losses_s: float) -> float:
    """Expected time until a piece is done that begins again at each loss: (exp(x) - 1) / rate, x = rate * length.

    Losses come at random, at `losses_s` a second. Infinite beyond what a float holds.
    """
    x = losses_s * length_s
    return (grown(x) - 1) / losses_s if x > 1e-9 else length_s


def grown(x: float) -> float:
    """exp(x), infinite beyond what a float holds."""
    return math.exp(x) if x < 700 else math.inf


def total_s(mix: Mix) -> float:
    """Seconds of all pieces one after another."""
    return sum(count * length_s for count, length_s in mix)


def tail_s(mix: Mix, servers: float, spread: float = 0.0) -> float:
    """Time by which the last of `servers` ends later than all together would end at once.

    The next piece goes to whoever is free, until none is left. At that moment each server is somewhere in a piece:
    what remains of it has the distribution of a residual life, F(t) = integral of P(length > u) du / mean, 0 to t.
    The last one ends after the largest of the remainders; equal work would end after their mean. Where there are no
    more pieces than servers, the last one ends after the longest of the pieces. Pieces of one length come in rounds.

    Args:
        mix: the pieces.
        servers: how many work at a time.
        spread: standard deviation of a piece's length about the one in `mix`, as a share of it.
    """
    mix = [(count, length_s) for count, length_s in mix if count > 0 and length_s > 0]
    pieces, servers = sum(count for count, _ in mix), max(1.0, servers)
    if not mix or servers == 1:
        return 0.0
    spread_mix = [(count / _POINTS, length_s * factor) for count, length_s in mix for factor in _factors(spread)]
    total = total_s(mix)

    def below(t: float) -> float:
        return sum(count for count, length_s in spread_mix if length_s <= t) / pieces

    def left_below(t: float) -> float:
        return sum(count * min(t, length_s) for count, length_s in spread_mix) / total

    longest_s = max(length_s for _, length_s in spread_mix)
    if pieces <= servers:
        return _expected_largest(below, longest_s, pieces) - total / pieces
    if len(mix) == 1 and pieces <= _ROUNDS * servers:
        rounds = math.ceil(pieces / servers)
        last = pieces - (rounds - 1) * servers
        return (rounds - 1 - pieces / servers) * mix[0][1] + _expected_largest(below, longest_s, last)
    mean_left_s = sum(count * length_s**2 for count, length_s in spread_mix) / (2 * total)
    return _expected_largest(left_below, longest_s, servers) - mean_left_s


def _factors(spread: float) -> list[float]:
    """Equally likely factors with mean 1: quantiles of a gamma distribution, by Wilson and Hilferty."""
    if spread == 0:
        return [1.0] * _POINTS
    normal = statistics.NormalDist()
    quantiles = (normal.inv_cdf((k + 0.5) / _POINTS) for k in range(_POINTS))
    raw = [max(0.0, 1 - spread**2 / 9 + spread / 3 * z) ** 3 for z in quantiles]
    return [factor * _POINTS / sum(raw) for factor in raw]


def _expected_largest(share_below: Callable[[float], float], most: float, draws: float) -> float:
    """Mean of the largest of some draws from a distribution on 0 to `most`: the integral of 1 - F^draws."""
    step = most / _STEPS
    return sum((1 - float(share_below((k + 0.5) * step) ** draws)) * step for k in range(_STEPS))
