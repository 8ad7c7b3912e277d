"""Cross-validation as a command: every track is scored by a model that has not seen it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from affectgrid.data.catalog import raw_video, read_aff_wild2
from affectgrid.search.study.records import TrialRecord
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


def test_a_search_is_scored_on_folds(repository: Path, rendered: Path, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    constants = "{model.hidden_dim: 16, optim.epochs: 2, window.length: 40, window.stride: 40}"
    searched = "{optim.lr: {float: [1.0e-3, 1.0e-2], log: true}}"
    head = ("name: small", "pruner: none", "seeds: [0, 1]", "trials: 2")
    space.write_text("\n".join([*head, f"constants: {constants}", f"space: {searched}"]))
    asked = ("--space", space, "--data", rendered, "--out", tmp_path / "out", "--folds", 2)
    done = job(repository, "tune", *asked)
    assert done.returncode == 0, done.stderr
    assert "P is the mean over 2 folds" in " ".join(done.stdout.split())
    study = tmp_path / "out" / "studies" / "small"
    catalog = read_aff_wild2(rendered)
    videos = {raw_video(track.id) for split in ("train", "validation") for track in catalog.split(split)}
    for trial in sorted((study / "trials").iterdir()):
        record = TrialRecord.model_validate_json((trial / "trial.json").read_text())
        assert record.objective == pytest.approx(sum(seed.history[-1]["val/p"] for seed in record.seeds) / 2)
        for seed, moments in json.loads((trial / "moments.json").read_text()).items():
            assert len(moments) == len(videos)  # every video was held out once
            packages = [trial / f"seed-{seed}{fold}" for fold in ("", "-fold-1")]
            assert [load_package(package).metrics["epoch"] for package in packages] == [2, 2]
    assert len(load_ensemble([study / "best" / "ensemble.json"]).members) == 2
    pruned = job(repository, "tune", *asked[2:], "--space", repository / "search_spaces" / "fusion.yaml")
    assert (pruned.returncode, "CFG-FOLDS" in pruned.stderr) == (2, True)
