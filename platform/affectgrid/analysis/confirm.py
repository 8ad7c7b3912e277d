"""Confirmation: the winner of a search and the default, trained again with seeds that the search never saw.

The best of many trials is best partly by luck. Fresh seeds take away the luck of training; what is left is that the
winner was picked on the very tracks that it is compared on, and for that the interval is widened (see `sidak`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import JsonValue, ValidationError
from torch import Tensor

from affectgrid.analysis.bootstrap import Difference, paired_difference
from affectgrid.analysis.confirmation import Confirmation, Confirmed, ConfirmRun
from affectgrid.analysis.summary import StudySummary
from affectgrid.search.space.schema import SearchSpace
from affectgrid.search.study.records import TrialRecord

DEFAULT = "default"
_SEED_LIMIT = 2**31


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A configuration to confirm.

    Args:
        key: its folder under ``confirm``.
        role: ``winner`` or ``default``.
        label: what it is, for a reader.
        values: dotted name -> value, beside the constants.
        seen: its objective in the search; None where the search did not finish it.
    """

    key: str
    role: str
    label: str
    values: dict[str, JsonValue]
    seen: float | None


def fresh_seeds(space: SearchSpace, count: int) -> tuple[int, ...]:
    """`count` seeds that the search does not use; more of them begin with fewer, so that a larger count adds runs."""
    seeds: dict[int, None] = {}
    for number in range(count + len(space.seeds) + count):  # at most so many are passed over
        digest = hashlib.sha256(f"confirm {number}".encode()).digest()
        seed = int.from_bytes(digest[:8], "little") % _SEED_LIMIT
        if seed not in space.seeds:
            seeds[seed] = None
    return tuple(seeds)[:count]


def candidates(space: SearchSpace, summary: StudySummary) -> list[Candidate]:
    """The default, and the winner unless the default itself won. Empty where no trial is complete."""
    tried = [_of_trials(space, trials) for trials in _by_configuration(summary)]
    if not tried:
        return []
    winner = max(tried, key=lambda candidate: candidate.seen or 0.0)
    default = space.resolve({}, seed=0)
    seen = next((one.seen for one in tried if space.resolve(one.values, seed=0) == default), None)
    found = [Candidate(DEFAULT, DEFAULT, "the default", {}, seen)]
    return found if space.resolve(winner.values, seed=0) == default else [*found, winner]


def num_tried(space: SearchSpace, summary: StudySummary) -> int:
    """Configurations other than the default that the winner was picked from, those that were ended early among them."""
    default = space.resolve({}, seed=0)
    tried = {json.dumps(trial.params, sort_keys=True): trial for trial in summary.trials if trial.state != "failed"}
    return sum(space.resolve(trial.params, seed=0) != default for trial in tried.values())


def read_run(file: Path, identity: str | None = None) -> ConfirmRun | None:
    """A run that ended, or None where it did not, or where it was of other data (another identity)."""
    try:
        run = ConfirmRun.model_validate_json(file.read_text())
    except (OSError, ValidationError):
        return None
    return run if identity is None or run.identity == identity else None


def conclude(
    space: SearchSpace, summary: StudySummary, runs: Mapping[str, Sequence[ConfirmRun]]
) -> Confirmation | None:
    """What the runs (by the key of their candidate) say; None where the winner, or the default, has none."""
    found = [
        Confirmed(role=one.role, label=one.label, values=one.values, seen=one.seen, runs=tuple(runs.get(one.key, ())))
        for one in candidates(space, summary)
    ]
    if not found or not all(one.scores for one in found):
        return None
    winner = found[1] if len(found) > 1 else None
    tried = num_tried(space, summary)
    differences = _differences(winner, found[0], tried) if winner else (None, None)
    return Confirmation(
        default=found[0],
        winner=winner,
        num_tried=tried,
        over_tracks=differences[0],
        over_tracks_and_seeds=differences[1],
    )


def _differences(winner: Confirmed, default: Confirmed, tried: int) -> tuple[Difference | None, Difference | None]:
    """Over the seeds with which both came to an end."""
    ours, theirs = ({run.seed: run for run in one.runs if run.moments} for one in (winner, default))
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return None, None
    one, other = (_moments([runs[seed] for seed in seeds]) for runs in (ours, theirs))
    compared = max(1, tried)
    over_seeds = paired_difference(one, other, num_comparisons=compared, redraw_seeds=True) if len(seeds) > 1 else None
    return paired_difference(one, other, num_comparisons=compared), over_seeds


def _moments(runs: Sequence[ConfirmRun]) -> Float[Tensor, "seed track stat 2"]:
    return torch.tensor([run.moments for run in runs], dtype=torch.float64)


def _by_configuration(summary: StudySummary) -> Iterator[list[TrialRecord]]:
    """A trial is a configuration; an arm's trials are its seeds."""
    complete = [trial for trial in summary.trials if trial.state == "complete"]
    if not summary.arms:
        yield from ([trial] for trial in complete)
        return
    for name in summary.arms:
        trials = [trial for trial in complete if trial.arm == name]
        if trials:
            yield trials


def _of_trials(space: SearchSpace, trials: Sequence[TrialRecord]) -> Candidate:
    first = trials[0]
    label = first.arm or f"trial {first.number}: {first.label}"
    seen = statistics.fmean(trial.objective for trial in trials if trial.objective is not None)
    values: dict[str, Any] = dict(first.params)
    return Candidate(f"trial-{first.number:05d}", "winner", label, values, seen)
