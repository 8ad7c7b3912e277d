"""A search while it runs: a bar and its trials on a terminal; anywhere else a line for each trial that ended."""

from __future__ import annotations

import dataclasses
import datetime
import math
import time
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_NUM_BEST = 5


@dataclasses.dataclass
class _Running:
    label: str
    epoch: int = 0
    num_epochs: int = 0
    best: float = math.nan


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a trial ended; `score` is None where it failed, and `reason` says why."""

    number: int
    label: str
    state: str
    score: float | None
    duration_s: float
    reason: str | None = None


class SearchDisplay:
    """Shows what it is told. Use it as a context; `console` decides between the two ways."""

    def __init__(
        self, title: str, num_trials: int, *, ended: tuple[Ended, ...] = (), console: Console | None = None
    ) -> None:
        self.title, self.num_trials = title, num_trials
        self.console = console or Console()
        self.ended = list(ended)
        self.running: dict[int, _Running] = {}
        self._num_before = len(ended)
        self._since = time.monotonic()
        self._live = Live(get_renderable=self._render, console=self.console, refresh_per_second=2, transient=True)

    def __enter__(self) -> SearchDisplay:
        if self.console.is_terminal:
            self._live.start()
        else:
            gone_on = f", {self._num_before} done before" if self._num_before else ""
            self._say(f"{self.title}: {self.num_trials} trials{gone_on}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def started(self, number: int, label: str, num_epochs: int) -> None:
        """A trial begins, or begins again."""
        self.running[number] = _Running(label, num_epochs=num_epochs)

    def progressed(self, number: int, epoch: int, best: float) -> None:
        """An epoch is done."""
        trial = self.running.get(number)
        if trial is not None:
            trial.epoch, trial.best = epoch, best

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

    def remaining_s(self) -> float | None:
        """Time to the end at the rate of this session; None before the first trial has ended."""
        done = len(self.ended) - self._num_before
        return (self.num_trials - len(self.ended)) * (time.monotonic() - self._since) / done if done else None

    def _line(self, ended: Ended) -> str:
        count = f"[{len(self.ended)}/{self.num_trials}]"
        score = f"P {ended.score:.3f}" if ended.score is not None else f"FAILED: {ended.reason}"
        early = ", ended early" if ended.state == "pruned" else ""
        best = f", best {self.best.score:.3f}" if self.best is not None else ""
        times = f"{ended.duration_s:.1f} s, {self._left()}"
        return f"{count} trial {ended.number}: {score}{early}{best}, {times} ({ended.label})"

    def _left(self) -> str:
        left = self.remaining_s()
        return "" if left is None else f"{datetime.timedelta(seconds=round(left))} left"

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        failed = sum(trial.state == "failed" for trial in self.ended)
        facts = [f"{len(self.ended)}/{self.num_trials} trials", self._left()]
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
            table.add_row(str(ended.number), f"{ended.score:.3f}", f"{ended.duration_s:.1f} s", Text(ended.label))
        for number, trial in sorted(self.running.items()):
            score = "" if math.isnan(trial.best) else f"{trial.best:.3f}"
            table.add_row(str(number), score, f"epoch {trial.epoch}/{trial.num_epochs}", Text(trial.label), style="dim")
        for failed in [trial for trial in self.ended if trial.state == "failed"][-3:]:
            table.add_row(str(failed.number), "", "failed", Text(failed.reason or ""), style="red")
        return table
