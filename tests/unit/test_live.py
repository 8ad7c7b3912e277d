"""The display of a running search."""

from __future__ import annotations

import io

from rich.console import Console

from affectgrid.reporting.live import Ended, SearchDisplay


def ended(number: int, score: float | None, **others: object) -> Ended:
    fields = {"state": "complete" if score is not None else "failed", "duration_s": 1.5, "label": f"l{number}"}
    return Ended(**{"number": number, "score": score, **fields, **others})  # type: ignore[arg-type]


def test_without_a_terminal_each_trial_that_ends_is_one_line():
    file = io.StringIO()
    with SearchDisplay("s", 4, ended=(ended(0, 0.7),), console=Console(file=file, width=40)) as display:
        display.started(1, "l1", 3)
        display.progressed(1, 2, 0.5)
        display.finished(ended(1, 0.5))
        display.finished(ended(2, None, reason="ValueError: [x]"))
        display.finished(ended(3, 0.9, state="pruned"))
    lines = file.getvalue().splitlines()
    assert lines[0] == "s: 4 trials, 1 done before"
    assert lines[1].startswith("[2/4] trial 1: P 0.500, best 0.700, 1.5 s")
    assert "FAILED: ValueError: [x]" in lines[2]
    assert "P 0.900, ended early, best 0.700" in lines[3]  # an unfinished score is no best one
    assert len(lines) == 4


def test_on_a_terminal_the_best_the_running_and_the_failed_are_shown():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, record=True)
    display = SearchDisplay("s", 9, console=console)
    display.started(2, "running one", 3)
    display.progressed(2, 1, 0.25)
    display.finished(ended(0, 0.75))
    display.finished(ended(1, None, reason="it broke"))
    console.print(display._render())
    text = console.export_text()
    for part in ("2/9 trials", "best P 0.750", "1 failed", "epoch 1/3", "running one", "it broke", "left"):
        assert part in text


def test_the_time_that_is_left_is_unknown_before_the_first_trial_has_ended():
    display = SearchDisplay("s", 2, ended=(ended(0, 0.5),), console=Console(file=io.StringIO()))
    assert display.remaining_s() is None
    display.finished(ended(1, 0.5))
    assert display.remaining_s() == 0
