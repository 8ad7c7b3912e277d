"""The link that a study prints, in a headless browser: the trials, the best first, with their scores and settings."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from affectgrid.tracking import open_tracker
from affectgrid.tracking.links import study_links
from support.logged_study import Study
from support.mlflow_server import MlflowServer

pytestmark = pytest.mark.long
BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
BUDGET_MS = 30_000  # of the page's own clock


def page(address: str) -> str:
    """The page's elements once its scripts have run."""
    assert BROWSER is not None
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=2600,900")
    wait = f"--virtual-time-budget={BUDGET_MS}"
    done = subprocess.run(
        [BROWSER, *options, wait, "--dump-dom", address], capture_output=True, text=True, timeout=180, check=True
    )
    return done.stdout


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
@pytest.mark.usefixtures("ray_cluster")
def test_the_printed_link_shows_the_trials_the_best_first(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = MlflowServer(short_tmp)
    server.start()
    try:
        summary = Study(short_tmp, monkeypatch).run(server.uri)
        tracker = open_tracker(server.uri, "study")
        shown = page(tracker.link(summary.name))
    finally:
        server.kill()
    assert "Model training" in shown
    names = re.findall(r">(#\d\d P -?\.\d{3} [^<]*)<", shown)
    order = [int(name[1:3]) for name in dict.fromkeys(names)]
    assert order == [trial.number for trial in summary.complete]
    for trial in summary.complete:
        assert f"{trial.score('val/p'):.3f}".removeprefix("0") in shown
    for column in ("best/p", "best/ccc_valence", *summary.complete[0].params):
        assert column in shown
    (line,) = study_links(f"sqlite:///{short_tmp}/server.db")
    assert tracker.link(summary.name).partition("/#/")[2] in line
