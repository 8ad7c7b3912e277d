"""How long a search takes: trials of different lengths on slots that come and go."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from affectgrid.analysis.capacity.conditions import Conditions
from affectgrid.analysis.capacity.machines import Fleet, Machine
from affectgrid.analysis.capacity.queueing import Mix, tail_s, total_s
from affectgrid.analysis.capacity.stage import Stage, paid_s, time_with_arrivals

TRIALS_PER_GPU = 4
RUNGS = (1 / 9, 1 / 3, 1.0)  # shares of the epochs at which ASHA asks
SLOTS, LONGEST = "slots", "one trial"


@dataclasses.dataclass(frozen=True)
class SearchWork:
    """What a search trains.

    Args:
        trials: how many.
        epochs: of a trial that is not stopped.
        train_frames, validation_frames: labelled ones.
        stride: frames between the starts of two training windows.
        windows_s: windows a second that one trial trains.
        validation_frames_s: frames a second that it predicts.
        load_frames_s: frames a second that a node reads into its files once, before its first trial.
        pruned: ASHA's share of epochs saved; 0: no pruner.
        warm_up: trials that are not stopped, because there is nothing to compare them with.
    """

    trials: int
    epochs: int
    train_frames: float
    validation_frames: float
    stride: int
    windows_s: float
    validation_frames_s: float
    load_frames_s: float
    pruned: float = 0.0
    warm_up: int = 0

    @property
    def trial_s(self) -> float:
        """Seconds of a whole trial."""
        windows = self.train_frames / self.stride
        return self.epochs * (windows / self.windows_s + self.validation_frames / self.validation_frames_s)

    @property
    def load_s(self) -> float:
        """Seconds until a node can train."""
        return (self.train_frames + self.validation_frames) / self.load_frames_s

    def mix(self, overhead: float = 1.0) -> Mix:
        """Trials by length. Of those that are asked, one share q goes on at each rung, so that `pruned` is saved."""
        whole = self.trial_s * overhead
        asked = max(0, self.trials - self.warm_up) if self.pruned else 0
        if not asked:
            return [(float(self.trials), whole)]
        first, second, _ = RUNGS
        # first (1 - q) + second q (1 - q) + q^2 = 1 - pruned
        a, b, c = 1 - second, second - first, first - (1 - self.pruned)
        q = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        shares = (1 - q, q * (1 - q), q * q)
        ends = [(asked * share, whole * rung) for share, rung in zip(shares, RUNGS, strict=True)]
        return [*ends[:2], (ends[2][0] + self.trials - asked, whole)]


def slots(machine: Machine, *, gpu_cluster: bool) -> int:
    """Trials that a machine trains at a time. Where a cluster has GPUs, each trial takes a share of one."""
    return min(machine.cpus, TRIALS_PER_GPU * machine.gpus) if gpu_cluster else machine.cpus


def estimate_search(work: SearchWork, fleet: Fleet, conditions: Conditions) -> Stage:
    """The time of a search, on as many of the machines as it can use."""
    used = needed_machines(work, fleet)
    whole = sum(slots(machine, gpu_cluster=used.gpus > 0) * n for machine, n in used.groups)
    resources = {LONGEST: work.trial_s, SLOTS: total_s(work.mix()) / min(whole, work.trials)}

    def end_s(under: Conditions) -> tuple[float, float]:
        mix = work.mix(_overhead(under))

        def servers(up: Sequence[tuple[Machine, float]], presence: float = 1.0) -> float:
            return min(presence * sum(slots(machine, gpu_cluster=used.gpus > 0) * n for machine, n in up), work.trials)

        end, up = time_with_arrivals(used, under, lambda up: servers(up, under.presence) / total_s(mix))
        return end, tail_s(mix, servers(up), conditions.trial_spread)

    quiet_s, quiet_tail_s = end_s(conditions.on_demand)
    end, tail = end_s(conditions)
    waits = {
        "start": conditions.prepare_s + conditions.worker_start_s + work.load_s,
        "machines coming": quiet_s - resources[SLOTS] - conditions.worker_start_s,
        "machines lost": end + tail - quiet_s - quiet_tail_s,
        "last trials": quiet_tail_s,
    }
    wall_s = end + tail + work.load_s
    paid = paid_s(used, conditions, wall_s, head=conditions.boot_s > 0)
    return Stage("search", used, conditions.prepare_s + wall_s, resources, waits, paid, whole)


def quick_search_s(work: SearchWork, fleet: Fleet) -> float:
    """The time on machines that are there, without its last trials: enough to compare fleets."""
    whole = sum(slots(machine, gpu_cluster=fleet.gpus > 0) * n for machine, n in fleet.groups)
    return max(work.trial_s, total_s(work.mix()) / whole) if whole else math.inf


def needed_machines(work: SearchWork, fleet: Fleet) -> Fleet:
    """As many of the machines as hold all trials at once, and no more."""
    left, groups = work.trials, []
    for machine, count in fleet.groups:
        each = slots(machine, gpu_cluster=fleet.gpus > 0)
        taken = min(count, math.ceil(left / each)) if each else 0
        left -= taken * each
        if taken:
            groups.append((machine, taken))
    return Fleet(tuple(groups))


def _overhead(conditions: Conditions) -> float:
    """A loss costs a trial half of the time between two saves, and another process's start."""
    return 1 + conditions.loss_rate_s(1) * (conditions.checkpoint_s / 2 + conditions.worker_start_s)
