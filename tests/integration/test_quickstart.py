"""The notebook docs/quickstart.ipynb, cell by cell, on a small study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.figure import Figure

from support.jobs import job

pytestmark = pytest.mark.long
_SPACE = {
    "name": "small",
    "trials": 3,
    "constants": {"window.length": 40, "window.stride": 40, "optim.epochs": 1, "model.hidden_dim": 16},
    "space": {"optim.lr": {"float": [1.0e-3, 1.0e-2], "log": True}},
}


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """What a cell shows: the value of its last line, where that is an expression."""
    *body, last = source.rstrip().splitlines()
    try:
        ending = compile(last, "cell", "eval")
    except SyntaxError:
        exec(compile(source, "cell", "exec"), names)
        return None
    exec(compile("\n".join(body), "cell", "exec"), names)
    return eval(ending, names)


def test_the_quickstart_runs(repository: Path, rendered: Path, tmp_path: Path, capsys) -> None:
    space = tmp_path / "small.yaml"
    space.write_text(yaml.safe_dump(_SPACE))
    done = job(repository, "tune", "--data", rendered, "--out", tmp_path / "out", "--space", space)
    assert done.returncode == 0, done.stderr
    cells = json.loads((repository / "docs" / "quickstart.ipynb").read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert sources[0].startswith("OUT, STUDY, DATA = ")
    names: dict[str, Any] = {"OUT": str(tmp_path / "out"), "STUDY": "small", "DATA": str(rendered)}
    shown = [run_cell(source, names) for source in sources[1:]]
    assert len(names["trials"]) == 3
    assert sum(isinstance(one, Figure) for one in shown) == 2
    summary = json.loads((tmp_path / "out" / "studies" / "small" / "summary.json").read_text())
    best = max(trial["objective"] for trial in summary["trials"])
    assert f"P {best:.3f}" in capsys.readouterr().out
    assert (tmp_path / "out" / "look.html").exists()
