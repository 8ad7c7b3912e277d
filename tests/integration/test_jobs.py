"""The commands as a user types them, on a small corpus: what they print, write and exit with."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch

from affectgrid.data.catalog import read_aff_wild2
from affectgrid.data.workspace import Workspace
from affectgrid.errors import ConfigError
from affectgrid.reporting.scores import ensemble_lines
from affectgrid.storage import Storage
from affectgrid.training.config import WindowConfig
from affectgrid.training.inference.ensemble import load_ensemble, save_ensemble
from affectgrid.training.inference.package import load_package, save_package
from support.jobs import QUICK, job
from support.processes import family, wait_until

SPLITS = ("test", "train", "validation")
JOBS = ("tune", "predict")  # the others run below


@pytest.mark.parametrize("name", JOBS)
def test_every_job_explains_itself(repository: Path, name: str) -> None:
    short, long = (job(repository, name, option) for option in ("--help", "--help-all"))
    assert short.returncode == long.returncode == 0
    for said in (short, long):
        assert "--out" in said.stdout
        assert "default" in said.stdout
    assert len(short.stdout.splitlines()) < 60


def test_the_settings_of_encoders_are_told_in_the_long_help_alone(repository: Path) -> None:
    short, long = (job(repository, "encode", option).stdout for option in ("--help", "--help-all"))
    assert "--encode.*" not in long
    assert "--visual.*" in short
    assert "--visual.margin" in long
    assert "--visual.margin" not in short


def test_a_misspelt_setting_is_refused_before_any_work(repository: Path, tmp_path: Path) -> None:
    done = job(repository, "train", "--out", tmp_path, "--config.optim.epoch", "3")
    assert done.returncode == 2
    assert "epochs" in done.stderr
    done = job(repository, "train", "--out", tmp_path, "--config.window.stride", "400")
    assert done.returncode == 2
    assert "stride 400 is above length 300" in done.stderr
    done = job(repository, "train", "--out", tmp_path, "--workers", 2, "--min-workers", 3)
    assert done.returncode == 2
    assert "min_workers 3 is above workers 2" in done.stderr
    assert not any(tmp_path.iterdir())


def test_storage_that_cannot_be_written_fails_before_any_work(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = job(repository, "tune", "--out", tmp_path / "file" / "out")
    assert done.returncode == 2
    assert "CFG-STORAGE" in done.stderr
    assert "--out" in done.stderr


@pytest.mark.long
def test_a_failed_trial_says_why_at_once_and_the_exit_status_tells(
    repository: Path, rendered: Path, tmp_path: Path
) -> None:
    space = tmp_path / "bad.yaml"
    space.write_text(
        "name: bad\n"
        "base: {optim.epochs: 2, model.hidden_dim: 16, window.length: 40, window.stride: 40}\n"
        "arms:\n- {name: fine}\n- {name: diverges, set: {optim.lr: 1.0e+30, optim.clip_norm: 1.0e+30}}\n"
    )
    done = job(repository, "tune", "--data", rendered, "--out", tmp_path / "out", "--space", space)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    (failed,) = [line for line in lines if line.startswith("[") and "FAILED" in line]
    assert "TRAIN-NAN" in failed
    (headline,) = [number for number, line in enumerate(lines) if line.startswith("bad: 2 of 2 trials, 1 failed")]
    assert lines.index(failed) < headline
    again = job(repository, "tune", "--data", rendered, "--out", tmp_path / "out", "--space", space)
    assert again.returncode == 1  # it is done, and still has a failed trial
    assert "[" not in again.stdout.splitlines()[0]


def test_validate_reports_everything_at_once(repository: Path, rendered: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(rendered, corpus)
    annotations = sorted((corpus / "VA_Estimation_Challenge" / "Train_Set").glob("*.txt"))
    annotations[0].write_text("valence,arousal\n0.5,oops\n")
    annotations[1].write_text("")
    done = job(repository, "validate", "--data", corpus, "--out", tmp_path / "out")
    assert done.returncode == 2
    problems = json.loads((tmp_path / "out" / "problems.json").read_text())
    errors = [problem for problem in problems if problem["severity"] == "error"]
    assert {annotations[0].name, annotations[1].name} <= {Path(e["where"].split(":")[0]).name for e in errors}
    assert all(problem["hint"] for problem in problems)
    page = tmp_path / "out" / "doctor.html"
    for shown in ("on the plane", "over time", "Rate, length and faces", "furthest from neutral"):
        assert shown in page.read_text().replace("valence-arousal plane", "on the plane"), shown
    assert str(corpus) not in page.read_text().partition("<table>")[2]  # places are relative to the data set
    card = json.loads((tmp_path / "out" / "data_card.json").read_text())
    assert card["fingerprint"] == read_aff_wild2(corpus).digest()[:16]
    assert done.stdout.splitlines()[-1] == f"report   {page}"
    listed = [path.read_text().split() for path in sorted((tmp_path / "out" / "tracks").iterdir())]
    assert [len(names) for names in listed] == [len(read_aff_wild2(corpus).split(s)) for s in SPLITS]
    chosen = tmp_path / "out" / "tracks" / "validation.txt"
    done = job(repository, "validate", "--data", corpus, "--tracks", chosen, "--out", tmp_path / "out")
    assert done.returncode == 0  # both broken files are in the other split
    assert f"{len(chosen.read_text().split())} tracks: 0 errors" in done.stdout
    chosen.write_text("none\n")
    done = job(repository, "validate", "--data", corpus, "--tracks", chosen, "--out", tmp_path / "out")
    assert (done.returncode, "CAT-TRACKS" in done.stderr) == (2, True)


def test_the_same_training_command_returns_what_is_done(repository: Path, rendered: Path, trained: Path) -> None:
    model = trained / "runs" / "quick" / "model" / "model.safetensors"
    before = model.stat().st_mtime_ns
    done = job(repository, "train", "--data", rendered, "--out", trained, "--name", "quick", *QUICK)
    assert done.returncode == 0, done.stderr
    assert model.stat().st_mtime_ns == before
    report = trained / "runs" / "quick" / "report" / "report.html"
    assert f"report    {report}" in done.stdout
    assert "Run quick" in report.read_text()
    assert (report.parent / "worst.png").exists()
    other = job(repository, "train", "--data", rendered, "--out", trained, "--name", "quick")
    assert other.returncode == 2
    assert "TRAIN-CHANGED" in other.stderr


def test_evaluate_scores_a_package(repository: Path, rendered: Path, trained: Path, tmp_path: Path) -> None:
    model, tracks = trained / "runs" / "quick" / "model", read_aff_wild2(rendered).split("validation")
    people = tmp_path / "people.csv"
    people.write_text("track,person\n" + "".join(f"{track.id},Ada\n" for track in tracks))
    before = shutil.copytree(model, tmp_path / "before" / "model")
    where = ("--data", rendered, "--out", trained, "--store", trained / "features", "--against", before)
    more = ("--choose-smoothing", 0, 3, 10, "--people", people, "--robustness")
    done = job(repository, "evaluate", "--model", model, *where, *more)
    assert done.returncode == 0, done.stderr
    (chosen,) = (line for line in done.stdout.splitlines() if "kept in the package" in line)
    config = json.loads((model / "config.json").read_text())["config"]
    assert f": {WindowConfig(**config['window']).smooth_half_widths[0]} and " in chosen
    folder = trained / "evaluations" / "quick-validation"
    scores = json.loads((folder / "scores.json").read_text())
    assert f"{scores['p']:.3f}" in done.stdout
    assert f"{scores['p']:.4f}" in chosen  # the kept filter is the one that is scored
    assert scores["intervals"]["p"]["low"] <= scores["p"] <= scores["intervals"]["p"]["high"]
    assert "data:image/png" in (folder / "report.html").read_text()
    assert "tiny" in done.stdout  # a result with untrained encoders says so
    (first, other), (person,) = scores["compared"], scores["people"]
    assert (first["name"], first["difference"], other["name"]) == (str(model), None, str(before))
    assert first["p"] == pytest.approx(scores["p"])
    assert other["difference"]["estimate"] == pytest.approx(other["p"] - first["p"])
    assert (person["name"], person["num_tracks"], person["p"]) == ("Ada", len(tracks), first["p"])
    assert [one["name"] for one in scores["robustness"][:3]] == ["as it is", "face gone", "sound gone"]
    names = ("scores", "regions", "models", "robustness", "people", "tracks")
    files = {f"{name}.{ending}" for name in names for ending in ("md", "tex", "csv")}
    assert {path.name for path in (folder / "tables").iterdir()} == files
    assert len((folder / "tables" / "tracks.csv").read_text().splitlines()) == 1 + len(tracks)


def test_two_models_are_weighed_on_validation_and_predict_together(
    repository: Path, rendered: Path, trained: Path, tmp_path: Path, ray_cluster: None
) -> None:
    """In this process, with the features of a store that is named: nothing is encoded again."""
    from affectgrid.distributed.evaluate import evaluate_models
    from affectgrid.distributed.options import CatalogOptions
    from affectgrid.distributed.predict import predict

    quick, data = trained / "runs" / "quick" / "model", CatalogOptions(data=str(rendered))
    package = load_package(quick)
    with torch.no_grad():
        package.model.va_head.weight.mul_(-1)  # a model that says the contrary
    wrong = save_package(
        tmp_path / "wrong", package.model, package.config, package.grid, encoders=package.encoders, metrics={}
    )
    workspace, store = Workspace.open(tmp_path / "out"), str(trained / "features")
    ensemble = load_ensemble([quick, wrong])
    on_validation = evaluate_models(ensemble, data, workspace, split="validation", store=store, fit=True)
    assert on_validation.scores.p >= max(on_validation.member_p) - 1e-6
    assert "fitted on validation" in next(ensemble_lines(on_validation.ensemble, on_validation.member_p))
    done = evaluate_models(ensemble, data, workspace, split="train", store=store, fit=True)
    assert done.split.name == "train"
    assert done.ensemble.weights == on_validation.ensemble.weights  # whatever is scored
    path = save_ensemble(Storage(tmp_path / "ensemble.json"), done.ensemble)
    report = predict(load_ensemble([path]), [rendered], workspace, store=store)
    assert report.tracks >= len(list((rendered / "VA_Estimation_Challenge").glob("*/*.txt")))
    assert "tiny" in report.encoders
    assert not workspace.features.exists()
    with pytest.raises(ConfigError, match="CFG-SMOOTH"):
        evaluate_models(ensemble, data, workspace, split="validation", store=store, half_widths=[0, 3])


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_training_says_how_to_go_on(rendered: Path, trained: Path, number: signal.Signals) -> None:
    """Status 130, the command to give, and nothing is left running. That it then resumes: tests/faults."""
    name = f"endless-{number.name}"
    arguments = ["--data", str(rendered), "--out", str(trained), "--name", name, *QUICK[2:]]

    def saved() -> bool:
        return any((trained / "runs" / name).glob("checkpoint_*/checkpoint.json"))

    with family(Path("/tmp")) as processes:
        driver = processes.start_job("train", [*arguments, "--config.optim.epochs", "100000"])
        wait_until(saved, alive=driver)
        driver.send_signal(number)
        _, err = driver.communicate(timeout=60)
        assert driver.returncode == 130, err[-2000:]
        assert "Resume with:" in err
        assert f"--name {name}" in err
        assert not processes.members("ray::")
        assert saved()


def test_a_folder_that_is_no_model_is_named(repository: Path, tmp_path: Path) -> None:
    done = job(repository, "evaluate", "--model", tmp_path / "nothing", "--out", tmp_path)
    assert done.returncode == 2
    assert "PKG-READ" in done.stderr
    assert "nothing" in done.stderr
