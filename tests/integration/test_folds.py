"""Cross-validation as a command: every track is scored by a model that has not seen it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from affectgrid.data.catalog import raw_video, read_aff_wild2
from affectgrid.training.inference.ensemble import load_ensemble
from affectgrid.training.inference.package import load_package

pytestmark = pytest.mark.long
QUICK = (
    *("--config.optim.epochs", "2", "--config.model.hidden-dim", "16"),
    *("--config.window.length", "40", "--config.window.stride", "40"),
)


def job(repository: Path, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"jobs/{name}.py", *map(str, arguments)]
    return subprocess.run(
        command, cwd=repository, capture_output=True, text=True, timeout=400, env=os.environ | {"COLUMNS": "160"}
    )


def test_folds_then_a_model_of_everything(repository: Path, rendered: Path, tmp_path: Path) -> None:
    out, smoothing = tmp_path / "out", ("--choose-smoothing", 0, 5)
    asked = ("--data", rendered, "--out", out, "--name", "cv", *QUICK, *smoothing)
    done = job(repository, "train", *asked, "--folds", 3)
    assert done.returncode == 0, done.stderr
    catalog = read_aff_wild2(rendered)
    tracks = {track.id for split in ("train", "validation") for track in catalog.split(split)}
    folder = out / "runs" / "cv"
    fold_of = json.loads((folder / "folds.json").read_text())["fold_of"]
    assert set(fold_of) == tracks
    assert {path.stem for path in (folder / "out-of-fold").glob("*.csv")} == tracks
    assert all(fold_of[track] == fold_of[other] for track in tracks for other in tracks
               if raw_video(track) == raw_video(other))  # fmt: skip
    ensemble = load_ensemble([folder / "ensemble.json"])
    assert len(ensemble.members) == 3
    kept = {member.config.window.smooth_half_widths for member in ensemble.members}
    assert len(kept) == 1  # chosen on the held-out tracks of all folds together
    assert "is the best for all folds together" in done.stdout
    again = job(repository, "train", *asked, "--folds", 3)
    assert again.returncode == 0
    assert again.stdout.split("Each fold")[1] == done.stdout.split("Each fold")[1]
    scored = job(repository, "evaluate", "--model", folder / "ensemble.json", "--data", rendered, "--out", out)
    assert scored.returncode == 0, scored.stderr

    everything = job(repository, "train", "--data", rendered, "--out", out, "--name", "all", *QUICK, "--everything")
    assert everything.returncode == 0, everything.stderr
    assert "has learnt from the tracks that it is scored on" in " ".join(everything.stdout.split())
    package = load_package(out / "runs" / "all" / "model")
    assert package.metrics["epoch"] == package.config.optim.epochs
    both = job(repository, "train", "--folds", 3, "--everything")
    assert (both.returncode, "give one of them" in both.stderr) == (2, True)
