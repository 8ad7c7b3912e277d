"""A small study: the notebook docs/quickstart.ipynb cell by cell, and its pages and the doctor's in a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.figure import Figure

from support.browser import needs_browser, open_page
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


@pytest.fixture(scope="module")
def study(repository: Path, rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The --out folder of a study of three trials."""
    out = tmp_path_factory.mktemp("study")
    space = out / "small.yaml"
    space.write_text(yaml.safe_dump(_SPACE))
    done = job(repository, "tune", "--data", rendered, "--out", out, "--space", space)
    assert done.returncode == 0, done.stderr
    return out


def test_the_quickstart_runs(repository: Path, rendered: Path, study: Path, capsys) -> None:
    cells = json.loads((repository / "docs" / "quickstart.ipynb").read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert sources[0].startswith("OUT, STUDY, DATA = ")
    names: dict[str, Any] = {"OUT": str(study), "STUDY": "small", "DATA": str(rendered)}
    shown = [run_cell(source, names) for source in sources[1:]]
    assert len(names["trials"]) == 3
    assert sum(isinstance(one, Figure) for one in shown) == 2
    summary = json.loads((study / "studies" / "small" / "summary.json").read_text())
    best = max(trial["objective"] for trial in summary["trials"])
    assert f"P {best:.3f}" in capsys.readouterr().out
    assert (study / "look.html").exists()


@needs_browser
@pytest.mark.parametrize("width_px", [400, 1200])
def test_pages_open_without_a_complaint(
    repository: Path, rendered: Path, study: Path, tmp_path: Path, width_px: int
) -> None:
    """Every picture of the report, of its figures and of the doctor's page is there, and no console line."""
    done = job(repository, "validate", "--data", rendered, "--out", study)
    assert done.returncode == 0, done.stderr
    for page in sorted([*(study / "studies" / "small").glob("*.html"), study / "doctor.html"]):
        shown, console = open_page(page, tmp_path / page.stem, width_px=width_px)
        assert console == [], page.name
        assert shown.count("<img ") + shown.count("<svg") >= 1, page.name
        for picture in re.findall(r'<img [^>]*src="([^"]{0,40})', shown):
            assert picture.startswith("data:image/"), page.name
