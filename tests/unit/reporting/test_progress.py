"""Off a terminal a long step says now and then how far it is; a short one says nothing."""

from __future__ import annotations

import re

import pytest

from affectgrid.reporting import progress
from affectgrid.reporting.progress import bar
from affectgrid.reporting.study.live import Ended, SearchDisplay


def test_a_long_step_says_count_rate_and_remaining_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 1000, 5))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    with bar("render", 10, "videos") as advance:
        for _ in range(10):
            advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) < 10
    assert re.fullmatch(r"render: \d+ of 10 videos, [\d.]+ videos/s, 0:\d\d:\d\d left", lines[0])
    assert lines[-1].startswith("render: 10 of 10 videos, ")


def test_a_short_step_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("render", 2, "videos") as advance:
        advance(1)
        advance(1)
    assert capsys.readouterr().err == ""


def test_a_search_of_long_trials_says_what_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("affectgrid.reporting.study.live.LINE_EVERY_S", 0.0)
    with SearchDisplay("study", 4) as display:
        display.started(0, "lr 0.1", 20)
        display.progressed(0, 7, 0.5)
        display.finished(Ended(0, "lr 0.1", "complete", 0.5, 1.0))
    said = capsys.readouterr().out
    assert "[0/4] running: 0 at epoch 7/20" in said
