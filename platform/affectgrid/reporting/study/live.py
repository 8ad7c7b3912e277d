"""A search while it runs: a bar and the trials on a terminal; anywhere else a line for each trial that ended."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from affectgrid.reporting.progress import LINE_EVERY_S, clock
from affectgrid.search.space.compatibility import not_modelled
from affectgrid.search.space.schema import SearchSpace
from affectgrid.search.study.warm_start import PriorTrials

_NUM_BEST = 5
_COSTS = {"parameters": "{:,.0f} parameters", "latency_ms": "{:.2f} ms"}


@dataclasses.dataclass
class _Running:
    label: str
    began: float
    epoch: int = 0
    num_epochs: int = 0
    best: float = math.nan


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a trial ended; `score` is None where it failed, and `reason` says why. `costs` are shown where given."""

    number: int
    label: str
    state: str
    score: float | None
    duration_s: float
    reason: str | None = None
    costs: Mapping[str, float] = dataclasses.field(default_factory=dict)


def opening_notes(space: SearchSpace, prior_trials: PriorTrials | None) -> list[str]:
    """Lines before the first trial: what the sampler cannot model, and what it learns from an older study."""
    alone = not_modelled(space)
    said = [f"{space.sampler} does not model {', '.join(alone)}: drawn at random"] if alone else []
    return [*said, *([_describe(prior_trials)] if prior_trials else [])]


def _describe(prior: PriorTrials) -> str:
    """``warm start from old: 7 of 9 trials are compatible; 2 are not (optim.lr is outside the space: 2)``."""
    left_out = sum(prior.incompatible.values())
    reasons = "; ".join(f"{reason}: {count}" for reason, count in prior.incompatible.items())
    line = f"warm start from {prior.study}: {len(prior.trials)} of {len(prior.trials) + left_out} trials are compatible"
    line += f"; {left_out} are not ({reasons})" if left_out else ""
    return line + (f". Different there: {', '.join(prior.differs)}" if prior.differs else "")


class SearchDisplay:
    """Shows the trials. Use it as a context manager; `console` decides between the bar and the lines.

    Args:
        title: of the study.
        num_trials: of the finished study; None where only the time limits it.
        ended: trials of earlier sessions.
        time_left_s: returns what is left of a time budget.
        num_workers: of each trial; its time counts as often in the worker-hours.
        show_costs: whether a trial's costs are shown beside its score.
        notes: lines shown at the start.
        console: where it is shown.
    """

    def __init__(
        self,
        title: str,
        num_trials: int | None,
        *,
        ended: tuple[Ended, ...] = (),
        time_left_s: Callable[[], float] | None = None,
        num_workers: int = 1,
        show_costs: bool = False,
        notes: Sequence[str] = (),
        console: Console | None = None,
    ) -> None:
        self.title, self.num_trials = title, num_trials
        self.console = console or Console()
        self.ended = list(ended)
        self.running: dict[int, _Running] = {}
        self.time_left_s, self.num_workers, self.show_costs, self.notes = time_left_s, num_workers, show_costs, notes
        self._num_before = len(ended)
        self._since = self._said = time.monotonic()
        self._live = Live(get_renderable=self._render, console=self.console, refresh_per_second=2, transient=True)

    def __enter__(self) -> SearchDisplay:
        for note in self.notes:
            self._say(note)
        if self.console.is_terminal:
            self._live.start()
        else:
            gone_on = f", {self._num_before} done before" if self._num_before else ""
            number = "trials until the time is up" if self.num_trials is None else f"{self.num_trials} trials"
            time_left = f", {clock(self.time_left_s())} to begin them" if self.time_left_s else ""
            self._say(f"{self.title}: {number}{gone_on}{time_left}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def started(self, number: int, label: str, num_epochs: int) -> None:
        """A trial starts, or starts again."""
        self.running[number] = _Running(label, time.monotonic(), num_epochs=num_epochs)

    def progressed(self, number: int, epoch: int, best: float) -> None:
        """An epoch is done."""
        trial = self.running.get(number)
        if trial is not None:
            trial.epoch, trial.best = epoch, best
        if not self.console.is_terminal and time.monotonic() - self._said >= LINE_EVERY_S:
            self._say(self._status())

    def finished(self, ended: Ended) -> None:
        """A trial ended."""
        self.running.pop(ended.number, None)
        self.ended.append(ended)
        if not self.console.is_terminal:
            self._say(self._line(ended))

    @property
    def best(self) -> Ended | None:
        """The best trial that ran to its end."""
        complete = [trial for trial in self.ended if trial.state == "complete" and trial.score is not None]
        return max(complete, key=lambda trial: trial.score or 0.0, default=None)

    @property
    def worker_hours(self) -> float:
        """The cost of all trials of all sessions: the time of each times its workers."""
        now = time.monotonic()
        ended_s = sum(trial.duration_s for trial in self.ended)
        return self.num_workers * (ended_s + sum(now - trial.began for trial in self.running.values())) / 3600

    def remaining_s(self) -> float | None:
        """Time to the end at the rate of this session, at most what is left of the time budget.

        None before the first trial has ended, unless there is a time budget.
        """
        limit = self.time_left_s() if self.time_left_s is not None else None
        done = len(self.ended) - self._num_before
        if not done or self.num_trials is None:
            return limit
        left = (self.num_trials - len(self.ended)) * (time.monotonic() - self._since) / done
        return left if limit is None else min(left, limit)

    def _count(self) -> str:
        return str(len(self.ended)) if self.num_trials is None else f"{len(self.ended)}/{self.num_trials}"

    def _line(self, ended: Ended) -> str:
        score = f"P {ended.score:.3f}" if ended.score is not None else f"FAILED: {ended.reason}"
        early = ", ended early" if ended.state == "pruned" else ""
        best = f", best {self.best.score:.3f}" if self.best is not None else ""
        facts = [f"{ended.duration_s:.1f} s", self._left(), self._cost()]
        result = f"{score}{self._costs(ended)}{early}{best}"
        return f"[{self._count()}] trial {ended.number}: {result}, {', '.join(filter(None, facts))} ({ended.label})"

    def _costs(self, ended: Ended) -> str:
        shown = [_COSTS[name].format(value) for name, value in ended.costs.items() if name in _COSTS]
        return "".join(f", {cost}" for cost in shown) if self.show_costs else ""

    def _cost(self) -> str:
        """What all trials took so far, once that is worth telling."""
        return f"{self.worker_hours:.1f} worker-hours in all" if self.worker_hours >= 1 else ""

    def _left(self) -> str:
        left = self.remaining_s()
        return "" if left is None else f"{clock(left)} left"

    def _status(self) -> str:
        """The running trials, for a log: trials of hours seldom end."""
        epochs = ", ".join(f"{number} at epoch {one.epoch}/{one.num_epochs}" for number, one in self.running.items())
        return ", ".join(filter(None, [f"[{self._count()}] running: {epochs}", self._left(), self._cost()]))

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        failed = sum(trial.state == "failed" for trial in self.ended)
        facts = [f"{self._count()} trials", self._left(), self._cost()]
        facts += [f"best P {self.best.score:.3f}"] if self.best is not None else []
        facts += [f"{failed} failed"] if failed else []
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(self.num_trials, len(self.ended), width=24)
        head.add_row(Text(self.title, style="bold"), bar, Text(", ".join(filter(None, facts))))
        return Group(head, self._trials())

    def _trials(self) -> Table:
        table = Table(box=None, padding=(0, 2), show_edge=False)
        for heading in ("trial", "P", "", "what"):
            table.add_column(
                heading, justify="right" if heading in {"trial", "P"} else "left", no_wrap=heading == "what"
            )
        complete = [trial for trial in self.ended if trial.score is not None]
        for ended in sorted(complete, key=lambda trial: -(trial.score or 0.0))[:_NUM_BEST]:
            facts = f"{ended.duration_s:.1f} s{self._costs(ended)}"
            table.add_row(str(ended.number), f"{ended.score:.3f}", facts, Text(ended.label))
        for number, trial in sorted(self.running.items()):
            score = "" if math.isnan(trial.best) else f"{trial.best:.3f}"
            table.add_row(str(number), score, f"epoch {trial.epoch}/{trial.num_epochs}", Text(trial.label), style="dim")
        for failed in [trial for trial in self.ended if trial.state == "failed"][-3:]:
            table.add_row(str(failed.number), "", "failed", Text(failed.reason or ""), style="red")
        return table
