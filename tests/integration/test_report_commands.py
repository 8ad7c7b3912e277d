"""The commands in a study's report, pasted into a shell as they are."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from affectgrid.analysis.summary import StudySummary
from affectgrid.storage import WorkingCopy
from support.jobs import job

pytestmark = pytest.mark.long
SPACE = """name: tiny
trials: 2
seeds: [3]
constants: {model.hidden_dim: 16, window.length: 40, window.stride: 40, optim.epochs: 2}
space:
  optim.lr: {float: [1.0e-3, 1.0e-2], log: true}
  prompt.mode: {choice: [fixed, none]}
  prompt.sigma_ratio: {float: [0.15, 1.5], log: true, when: prompt.mode != none}
"""


def test_the_commands_of_a_report_run_as_pasted(repository: Path, rendered: Path, tmp_path: Path) -> None:
    space, out = tmp_path / "space.yaml", tmp_path / "an out"
    space.write_text(SPACE)
    done = job(repository, "tune", "--data", rendered, "--out", out, "--space", space, timeout_s=600)
    assert done.returncode == 0, done.stderr
    study = out / "studies" / "tiny"
    blocks = [
        html.unescape(text) for text in re.findall(r"<code>([^<]*)</code></pre>", (study / "report.html").read_text())
    ]
    commands = [text for text in blocks if text.startswith("python ")]
    assert [text.split()[1] for text in commands] == ["jobs/train.py", "jobs/evaluate.py", "jobs/predict.py"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    printed = []
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command], cwd=repository, capture_output=True, text=True, timeout=600,
            env=os.environ | {"PATH": path},
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stderr)
        printed.append(done.stdout)
    best = StudySummary.read(WorkingCopy(study)).best
    assert best is not None
    again = json.loads((out / "runs" / "tiny-best" / "result.json").read_text())
    assert again["best"]["val/p"] == pytest.approx(best.score("val/p"), abs=1e-6)
    scores = json.loads((out / "evaluations" / "best-validation" / "scores.json").read_text())
    assert scores["p"] == pytest.approx(best.score("val/p"), abs=1e-6)
    tracks = (study / "best" / "validation.txt").read_text().split()
    assert {path.stem for path in (out / "predictions").glob("*.csv")} == set(tracks)
    assert f"{len(tracks)} tracks" in printed[2]
    assert not re.search(r"encode: [1-9]", "".join(printed))  # the study has encoded all that they need
    assert (study / "best" / "best.yaml").read_text() in blocks
