"""The display of a running search."""

from __future__ import annotations

import io

from rich.console import Console

from affectgrid.reporting.study.live import Ended, SearchDisplay


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


def test_the_cost_is_said_in_worker_hours_of_all_sessions():
    file = io.StringIO()
    before = (ended(0, 0.7, duration_s=3600.0),)
    with SearchDisplay("s", 3, ended=before, num_workers=2, console=Console(file=file, width=40)) as display:
        display.finished(ended(1, 0.5, duration_s=1800.0))
        display.finished(ended(2, None, reason="it broke", duration_s=900.0))
    lines = file.getvalue().splitlines()
    assert ", 3.0 worker-hours in all (l1)" in lines[1]  # 2 x (1 h + 0.5 h)
    assert ", 3.5 worker-hours in all (l2)" in lines[2]
    assert display.worker_hours == 3.5


def test_a_time_budget_limits_the_time_that_is_left_and_notes_come_first():
    file = io.StringIO()
    display = SearchDisplay(
        "s", None, time_left_s=lambda: 90.0, notes=["careful"], console=Console(file=file, width=40)
    )
    with display:
        display.finished(ended(0, 0.5))
    lines = file.getvalue().splitlines()
    assert lines[:2] == ["careful", "s: trials until the time is up, 0:01:30 to begin them"]
    assert lines[2].startswith("[1] trial 0: P 0.500, best 0.500, 1.5 s, 0:01:30 left")
    console = Console(file=io.StringIO(), force_terminal=True, width=100, record=True)
    console.print(display._render())
    assert "1 trials, 0:01:30 left" in console.export_text()


def test_costs_are_shown_where_they_are_objectives():
    file = io.StringIO()
    with SearchDisplay("s", 2, show_costs=True, console=Console(file=file, width=40)) as display:
        display.finished(ended(0, 0.5, costs={"parameters": 12345.0, "latency_ms": 1.5}))
    assert "P 0.500, 12,345 parameters, 1.50 ms, best" in file.getvalue()


def test_the_time_that_is_left_is_unknown_before_the_first_trial_has_ended():
    display = SearchDisplay("s", 2, ended=(ended(0, 0.5),), console=Console(file=io.StringIO()))
    assert display.remaining_s() is None
    display.finished(ended(1, 0.5))
    assert display.remaining_s() == 0
