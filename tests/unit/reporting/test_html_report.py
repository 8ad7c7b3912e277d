"""The report: one file, whole, escaped, and readable without its pictures."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from affectgrid.analysis.summary import StudySummary
from affectgrid.reporting import html
from affectgrid.reporting.figures import save
from affectgrid.reporting.study.figures import search_course
from affectgrid.reporting.study.pictures import add_front, draw_best
from affectgrid.reporting.study.recipe import Recipe
from affectgrid.reporting.study.report import print_study, write_report
from affectgrid.reporting.tables import Table
from affectgrid.search.study.records import ParetoPoint, SeedRecord, TrialRecord
from affectgrid.storage import Storage
from affectgrid.training.inference.package import load_package, save_package
from affectgrid.training.loop import fit
from support.planted import planted_data, small_config

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that tags close, and collects what matters."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.headings: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in {"h1", "h2"}:
            self.headings.append(data)


@pytest.fixture
def picture(tmp_path: Path) -> html.Picture:
    return html.Picture(save(search_course([0, 1], [0.2, 0.5]), tmp_path / "a.png"), 'what "it" shows', "below <it>")


def test_a_page_is_whole_and_loads_nothing(picture: html.Picture):
    table = Table.of("numbers", [{"a & b": "<1>"}])
    text = html.render(
        "A <title>", [html.Section("One", ["a < b"], [table], [picture], [("commit", "abc")])], caveat="mind"
    )
    page = Page(text)
    assert page.headings == ["A <title>", "One"]
    assert page.images[0]["alt"] == 'what "it" shows'
    assert (page.images[0]["src"] or "").startswith("data:image/png;base64,")
    assert all(part in page.text for part in ("a < b", "<1>", "a & b", "below <it>", "mind", "abc"))
    assert not re.search(r"(?:src|href)=\"(?!data:)|<script|url\(", text)
    assert 'lang="en"' in text
    assert (page.images[0]["width"], page.images[0]["height"]) == ("340", "240")  # as drawn: 3.4 by 2.4 inches


def test_only_a_table_that_can_be_sorted_brings_a_script():
    plain, sortable = (Table.of("numbers", [{"a": "1"}], sortable=answer) for answer in (False, True))
    with_script = html.render("t", [html.Section("s", tables=[plain, sortable])])
    Page(with_script)
    assert (with_script.count("<script>"), with_script.count('<table class="sortable">')) == (1, 1)
    assert "<script" not in html.render("t", [html.Section("s", tables=[plain])])


def test_code_is_kept_as_it_is_typed():
    text = "python a.py \\\n    --b 'c & d'"
    page = Page(html.render("t", [html.Section("s", code=[("do:", text)])]))
    assert text in page.text


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path, picture: html.Picture):
    path = html.write(tmp_path / "r.html", "t", [])
    before = path.read_bytes()
    lost = html.Picture(tmp_path / "gone.png", "")
    with pytest.raises(FileNotFoundError):
        html.write(path, "other", [html.Section("s", pictures=[lost])])
    assert path.read_bytes() == before


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> StudySummary:
    """A study of one real, tiny run."""
    folder, data, config = tmp_path_factory.mktemp("study"), planted_data(), small_config()
    prompts = data.prompts[config.prompt.file]
    result = fit(config, data.train, data.validation, prompts)
    save_package(
        folder / "model", result.model, config, prompts.grid, encoders=data.train.encoders, metrics=result.best
    )
    best = TrialRecord(
        number=0,
        label="l",
        state="complete",
        params={"optim.lr": 0.1},
        objective=result.best["val/p"],
        seeds=(SeedRecord(seed=0, history=result.history),),
    )
    failed = TrialRecord(number=1, label="two", state="failed", params={"optim.lr": 0.2}, reason="it broke")
    return StudySummary(
        name="s",
        space={},
        data="d",
        encoders={"visual": "tiny"},
        num_planned=2,
        trials=(best, failed),
        wall_s=1,
        folder=folder,
        commit="abc123",
        command="tune.py",
        versions={"python": "3.11.9", "torch": "2.9.0"},
    )


def test_the_report_of_a_study_shows_its_best_model(summary: StudySummary):
    package, data = load_package(summary.folder / "model"), planted_data()
    histories = {"seed 0": summary.trials[0].seeds[0].history}
    best = draw_best(package, data.validation, summary.folder / "best", histories=histories, course={0: 0.5})
    assert best.scores.p == pytest.approx(summary.trials[0].objective, abs=1e-6)  # the saved model is the scored one
    recipe = Recipe("arms:\n- name: best\n", "here/best.yaml", (("Train it again:", "python jobs/train.py"),))
    page = Page(write_report(summary, best, None, recipe).read_text())
    assert len(page.images) == 6
    assert all(image["alt"] for image in page.images)
    for part in ("it broke", "abc123", "tune.py", "torch 2.9.0", "bootstrap", *package.grid.names):
        assert part in page.text
    for part in (recipe.space, recipe.place, "python jobs/train.py"):
        assert part in page.text
    assert page.text.count("untrained tiny encoders") == 1
    assert (summary.folder / "report.html").stat().st_size < 2_000_000


def test_a_front_is_a_table_and_a_figure_for_each_cost(summary: StudySummary, tmp_path: Path):
    values = {"val/p_best": 0.5, "parameters": 1234.0, "latency_ms": 1.5}
    best = summary.trials[0].model_copy(update={"costs": {"parameters": 1234.0, "latency_ms": 1.5}})
    changes = {
        "trials": (best, summary.trials[1]),
        "pareto": (ParetoPoint(trial=0, values=values),),
        "folder": tmp_path,
    }
    fronted = summary.model_copy(update=changes)
    package, data = load_package(summary.folder / "model"), planted_data()
    drawn = draw_best(package, data.validation, tmp_path / "best", histories={}, course={0: 0.5})
    drawn = add_front(drawn, tmp_path / "best", fronted.cost_points(), [0])
    fronts = [picture.path.name for picture in drawn.pictures if picture.path.name.startswith("pareto")]
    assert sorted(fronts) == ["pareto-latency-ms.png", "pareto-parameters.png"]
    page = Page(write_report(fronted, drawn).read_text())
    assert len(page.images) == len(drawn.pictures)
    for part in ("Pareto front", "1234", "1.500", "it broke"):
        assert part in page.text


def test_a_study_without_a_success_has_a_report_too(summary: StudySummary, tmp_path: Path):
    none = summary.model_copy(update={"trials": summary.trials[1:], "folder": tmp_path})
    page = Page(write_report(none, None).read_text())
    assert page.images == []
    assert "it broke" in page.text


def test_the_terminal_says_what_was_found_and_where_it_lies(summary: StudySummary):
    command = "mlflow ui --backend-store-uri sqlite:////x/mlflow.db"
    console = Console(record=True, file=io.StringIO())
    print_study(summary, command, "http://x/#/1", Storage("/out"), console=console)
    text = console.export_text()
    for part in ("s: 2 of 2 trials, 1 failed", "it broke", command, "/out", "untrained `tiny` encoders"):
        assert part in text
