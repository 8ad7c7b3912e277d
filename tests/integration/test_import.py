"""A third stream from the command line: import, search with and without it, predict where it is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from affectgrid.data.annotations import Annotation, read_annotation, write_annotation
from affectgrid.data.catalog import read_aff_wild2

SPACE = {
    "name": "third",
    "seeds": [0, 1, 2],
    "base": {"window.length": 40, "window.stride": 40, "optim.epochs": 40, "model.hidden_dim": 16, "optim.lr": 5.0e-3},
    "arms": [{"name": "without"}, {"name": "with", "set": {"model.streams": ["visual", "audio", "planted"]}}],
}


def job(repository: Path, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"jobs/{name}.py", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "160"}
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=400, env=environment)


def planted_corpus(rendered: Path, root: Path) -> Path:
    """The rendered videos with labels that neither face nor voice tells; and files that tell valence, with noise."""
    data, draw = root / "data", np.random.default_rng(0)
    shutil.copytree(rendered, data)
    (root / "planted").mkdir()
    for track in read_aff_wild2(data).tracks:
        if track.annotation is None:
            continue
        labels = read_annotation(track.annotation)
        phase = draw.uniform(0, 6.28, 2)
        time_s = np.arange(labels.num_frames)[:, None] / 25
        va = 0.7 * np.sin(time_s * np.array([1.7, 1.1]) + phase)
        write_annotation(track.annotation, Annotation(va.astype(np.float32), labels.valid))
        planted = va[:, :1] * np.array([[1.0, -2.0]]) + 0.1 * draw.normal(size=(labels.num_frames, 2))
        np.save(root / "planted" / f"{track.id}.npy", planted)
    return data


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_planted_stream_is_found_and_a_video_without_it_is_told(
    repository: Path, rendered: Path, tmp_path: Path
) -> None:
    data, out = planted_corpus(rendered, tmp_path), tmp_path / "out"
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(SPACE))
    early = job(repository, "tune", "--data", data, "--out", out, "--space", space)
    assert early.returncode == 2  # before anything is encoded
    assert "CFG-STREAM" in early.stderr
    assert "jobs/import.py" in early.stderr
    brought = ("--stream", "planted", "--files", tmp_path / "planted", "--source", "planted here")
    done = job(repository, "import", *brought, "--data", data, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "2 numbers by frames" in done.stdout
    done = job(repository, "tune", "--data", data, "--out", out, "--space", space)
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "studies" / "third" / "summary.json").read_text())
    difference = summary["differences"]["with"]
    assert difference["estimate"] > 0.1, difference  # too few videos for an interval: see test_third_stream
    models = sorted((out / "studies" / "third").glob("trials/*/seed-0"))
    with_planted = next(path for path in models if "planted" in (path / "config.json").read_text())
    video = next(path for path in data.rglob("*.mp4"))
    clip = tmp_path / "another.mp4"
    shutil.copy(video, clip)
    done = job(repository, "predict", clip, "--model", with_planted, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "planted: not imported for 1 tracks, such as another" in done.stdout
