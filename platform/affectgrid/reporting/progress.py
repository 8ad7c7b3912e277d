"""Progress of a long step: a bar on a terminal; anywhere else, as in the log of a job, a line now and then."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Advance = Callable[[int], None]
LINE_EVERY_S = 30.0  # off a terminal


class _Rate(ProgressColumn):
    """Units per second, over Rich's own moving estimate."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {task.fields['unit']}/s" if speed else "")


class _Lines:
    """Count, rate and remaining time as text, at most every `LINE_EVERY_S`, and once at the end of a step that long."""

    def __init__(self, label: str, total: int, unit: str, console: Console) -> None:
        self.label, self.total, self.unit, self.console = label, total, unit, console
        self.done, self.began = 0, time.monotonic()
        self.said = self.began

    def advance(self, count: int) -> None:
        self.done += count
        if time.monotonic() - self.said >= LINE_EVERY_S:
            self.said = time.monotonic()
            self.say()

    def finish(self) -> None:
        if self.said != self.began:
            self.say()

    def say(self) -> None:
        elapsed_s = time.monotonic() - self.began
        rate = self.done / elapsed_s
        facts = [f"{self.label}: {self.done:,} of {self.total:,} {self.unit}", f"{rate:,.1f} {self.unit}/s"]
        if rate and self.done < self.total:
            facts.append(f"{clock((self.total - self.done) / rate)} left")
        self.console.print(", ".join(facts), markup=False, highlight=False, soft_wrap=True)


def clock(duration_s: float) -> str:
    """A duration as hours:minutes:seconds."""
    return str(datetime.timedelta(seconds=round(duration_s)))


@contextlib.contextmanager
def bar(label: str, total: int, unit: str) -> Iterator[Advance]:
    """A bar for `total` `unit`s; call the yielded function with the number that was just done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        lines = _Lines(label, total, unit, console)
        yield lines.advance
        lines.finish()
        return
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=total, unit=unit)
        yield lambda count: progress.advance(task, count)
