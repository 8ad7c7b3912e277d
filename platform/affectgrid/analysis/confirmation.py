"""Confirmation: the winner of a search and the default, trained again with seeds that the search never saw.

The best of many trials is best partly by luck. Fresh seeds take away the luck of training; what is left is that the
winner was picked on the very videos that it is compared on, and for that the interval is widened (see `sidak`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field, JsonValue, ValidationError
from torch import Tensor

from affectgrid.analysis.bootstrap import Difference, compare
from affectgrid.metrics import Metrics
from affectgrid.search.space.schema import SearchSpace
from affectgrid.search.study.records import TrialRecord
from affectgrid.settings import Settings

DEFAULT = "default"
_SEED_LIMIT = 2**31


class ConfirmRun(Settings):
    """One configuration trained with one fresh seed.

    Args:
        identity: of the run (`run_identity`): a file of other data or settings does not count.
        best: metrics of the epoch that was kept; empty where the run failed, and `reason` says why.
        history: metrics of every epoch.
        moments: of the kept model's predictions, [raw video][stat][axis], in the order of the validation split.
    """

    seed: int
    identity: str
    best: Metrics = Field(default_factory=dict)
    history: tuple[Metrics, ...] = ()
    moments: tuple[tuple[tuple[float, ...], ...], ...] = ()
    duration_s: float = 0.0
    reason: str | None = None


class Confirmed(Settings):
    """One configuration and its fresh runs. `seen` is its objective in the search, None where it was not finished."""

    role: str
    label: str
    values: dict[str, JsonValue]
    seen: float | None
    runs: tuple[ConfirmRun, ...] = ()

    @property
    def scores(self) -> list[float]:
        """P of every finished run."""
        return [run.best["val/p"] for run in self.runs if run.best]

    @property
    def training_luck(self) -> float | None:
        """The score in the search minus the mean over fresh seeds."""
        return None if self.seen is None or not self.scores else self.seen - statistics.fmean(self.scores)

    @property
    def num_failed(self) -> int:
        """Runs that failed."""
        return sum(run.reason is not None for run in self.runs)


class Confirmation(Settings):
    """The winner beside the default; `winner` is None where the default itself won.

    Args:
        num_tried: configurations other than the default that the winner was picked from.
        difference: winner minus default, with its interval over videos and seeds.
    """

    default: Confirmed
    winner: Confirmed | None
    num_tried: int
    difference: Difference | None = None

    @property
    def best(self) -> Confirmed:
        """What the search recommends."""
        return self.winner or self.default

    @property
    def num_failed(self) -> int:
        """Runs that failed."""
        return sum(one.num_failed for one in (self.default, self.winner) if one is not None)


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


def candidates(space: SearchSpace, trials: Sequence[TrialRecord]) -> list[Candidate]:
    """The default, and the winner unless the default itself won. Empty where no trial is complete."""
    tried = [_of_trials(own) for own in _by_configuration(trials)]
    if not tried:
        return []
    winner = max(tried, key=lambda candidate: candidate.seen or 0.0)
    default = space.resolve({}, seed=0)
    seen = next((one.seen for one in tried if space.resolve(one.values, seed=0) == default), None)
    found = [Candidate(DEFAULT, DEFAULT, "the default", {}, seen)]
    return found if space.resolve(winner.values, seed=0) == default else [*found, winner]


def num_tried(space: SearchSpace, trials: Sequence[TrialRecord]) -> int:
    """Configurations other than the default that the winner was picked from, those that were ended early among them."""
    default = space.resolve({}, seed=0)
    tried = {json.dumps(trial.params, sort_keys=True): trial for trial in trials if trial.state != "failed"}
    return sum(space.resolve(trial.params, seed=0) != default for trial in tried.values())


def read_run(file: Path, identity: str) -> ConfirmRun | None:
    """A run that ended, or None where it did not or was of other data (another identity)."""
    try:
        run = ConfirmRun.model_validate_json(file.read_text())
    except (OSError, ValidationError):
        return None
    return run if run.identity == identity else None


def conclude(
    space: SearchSpace, trials: Sequence[TrialRecord], runs: Mapping[str, Sequence[ConfirmRun]]
) -> Confirmation | None:
    """What the runs (by the key of their candidate) say; None where the winner, or the default, has none."""
    found = [
        Confirmed(role=one.role, label=one.label, values=one.values, seen=one.seen, runs=tuple(runs.get(one.key, ())))
        for one in candidates(space, trials)
    ]
    if not found or not all(one.scores for one in found):
        return None
    winner = found[1] if len(found) > 1 else None
    tried = num_tried(space, trials)
    return Confirmation(
        default=found[0],
        winner=winner,
        num_tried=tried,
        difference=_difference(winner, found[0], tried) if winner else None,
    )


def _difference(winner: Confirmed, default: Confirmed, tried: int) -> Difference:
    """Over all the seeds that each of them finished."""
    ours, theirs = (_moments([run for run in one.runs if run.moments]) for one in (winner, default))
    return compare(ours, theirs, num_comparisons=max(1, tried))


def _moments(runs: Sequence[ConfirmRun]) -> Float[Tensor, "seed video stat 2"]:
    return torch.tensor([run.moments for run in runs], dtype=torch.float64)


def _by_configuration(trials: Sequence[TrialRecord]) -> list[list[TrialRecord]]:
    """A trial is a configuration; an arm's trials are its seeds."""
    found: dict[str | int, list[TrialRecord]] = {}
    for trial in trials:
        if trial.state == "complete":
            found.setdefault(trial.number if trial.arm is None else trial.arm, []).append(trial)
    return list(found.values())


def _of_trials(trials: Sequence[TrialRecord]) -> Candidate:
    first = trials[0]
    label = first.arm or f"trial {first.number}: {first.label}"
    seen = statistics.fmean(trial.objective for trial in trials if trial.objective is not None)
    values: dict[str, Any] = dict(first.params)
    return Candidate(f"trial-{first.number:05d}", "winner", label, values, seen)
