"""The page of an evaluation or a run, and its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from affectgrid.analysis.evaluation import TOGETHER, Evaluation, compare_predictions
from affectgrid.reporting.scores import write_evaluation
from affectgrid.storage import Storage
from affectgrid.training.inference.ensemble import Ensemble, combine, load_ensemble
from affectgrid.training.inference.groups import score_groups
from affectgrid.training.inference.package import save_package
from affectgrid.training.inference.predict import evaluate
from affectgrid.training.loop import fit
from affectgrid.training.manifest import collect
from support.planted import planted_data, small_config
from unit.reporting.test_html_report import Page


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Two models of one real, tiny run each, together."""
    folder, data = tmp_path_factory.mktemp("runs"), planted_data()
    for seed in (0, 1):
        config = small_config(seed=seed, optim__epochs=1)
        prompts = data.prompts[config.prompt.file]
        result = fit(config, data.train, data.validation, prompts)
        facts = {"encoders": data.train.encoders, "metrics": result.best, "manifest": collect(data="planted")}
        save_package(folder / f"r{seed}" / "model", result.model, config, prompts.grid, **facts)  # type: ignore[arg-type]
    ensemble: Ensemble = load_ensemble([folder / "r0" / "model", folder / "r1" / "model"])
    members = ensemble.predict_members(lambda _: data.validation)
    together = combine(members, ensemble.weights)
    named = [(TOGETHER, together), *((str(place), own) for place, own in zip("ab", members, strict=True))]
    return Evaluation(
        ensemble,
        data.validation,
        together,
        evaluate(together, data.validation, ensemble.members[0].grid),
        compared=compare_predictions(named, data.validation),
        tracks=tuple(score_groups(together, data.validation)),
    )


def test_the_page_says_what_was_compared_and_what_made_each_model(done: Evaluation, tmp_path: Path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "people.csv").write_text("of an evaluation before this one")
    write_evaluation(Storage(tmp_path), done, "mind this")
    page = Page((tmp_path / "report.html").read_text())
    assert page.headings[0] == "Scores on validation"
    assert page.headings.count("How the model was made") == 2
    for part in ("mind this", TOGETHER, "P - all together", "hidden_dim: 16", "torch ", "Within each track"):
        assert part in page.text
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert [one["name"] for one in scores["compared"]] == [TOGETHER, "a", "b"]
    assert scores["compared"][1]["difference"]["num_comparisons"] == 2
    tables = {path.name for path in (tmp_path / "tables").iterdir()}
    assert tables == {f"{n}.{e}" for n in ("scores", "regions", "models", "tracks") for e in ("md", "tex", "csv")}


def test_the_page_of_a_run_has_its_course(done: Evaluation, tmp_path: Path):
    history = [{"epoch": 1.0, "train/loss": 1.0, "val/p": 0.1, "val/ccc_valence": 0.1, "val/ccc_arousal": 0.1}]
    write_evaluation(Storage(tmp_path), done, "", histories={"mine": history})
    page = Page((tmp_path / "report.html").read_text())
    assert page.headings[0] == "Run mine"
    assert (tmp_path / "learning-curves.png").exists()
    assert len(page.images) == 3
