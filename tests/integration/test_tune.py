"""A study on a real Ray: every trial there once, in the ledger, in Optuna's database and in MLflow.

Longer than 300 lines: its cases share one cluster and one finished study, which take half a minute to make.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import ray as ray_core
from mlflow import MlflowClient
from optuna.trial import TrialState

from affectgrid.analysis.summary import StudySummary
from affectgrid.distributed import cluster
from affectgrid.distributed.options import LogModelsOption
from affectgrid.distributed.tune.resources import TrialResources
from affectgrid.distributed.tune.run import tune
from affectgrid.errors import ConfigError
from affectgrid.reporting.study.confirmation import confirmation_tables
from affectgrid.reporting.study.tables import arm_rows, headline
from affectgrid.search.space.reading import load_space, parse_space
from affectgrid.search.study.journal import open_journal
from affectgrid.tracking import Tracker, open_tracker
from affectgrid.training.inference.package import load_package
from affectgrid.training.inference.predict import evaluate, predict_split
from support.planted import PLANTED_SPLITS, planted_data
from support.study_driver import SMALL, SPACE
from support.waits import waits_s


@pytest.fixture(scope="module")
def storage() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ag", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def ray(storage: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(storage / "r"))
        with cluster.connect("local", num_cpus=2):
            yield


@pytest.fixture(scope="module")
def tracker(storage: Path) -> Tracker:
    return open_tracker(f"sqlite:///{storage / 'mlflow.db'}", "tests")


class Study:
    """Runs studies in the shared cluster."""

    def __init__(self, storage: Path, tracker: Tracker) -> None:
        self.storage, self.tracker = storage, tracker
        self.client = MlflowClient(tracking_uri=tracker.uri)

    def run(self, **changes: Any) -> StudySummary:
        return tune(parse_space(SPACE | changes), planted_data(), storage=self.storage, tracker=self.tracker)

    def runs(self, parent: str) -> list[Any]:
        condition = f"tags.`mlflow.parentRunId` = '{parent}'"
        return list(self.client.search_runs([self.tracker.experiment_id], condition))

    def root(self, name: str) -> Any:
        condition = f"tags.`mlflow.runName` = '{name}'"
        (run,) = self.client.search_runs([self.tracker.experiment_id], condition)
        return run

    def artifacts(self, run_id: str, folder: str) -> set[str]:
        return {Path(file.path).name for file in self.client.list_artifacts(run_id, folder)}


@pytest.fixture(scope="module")
def study(ray: None, storage: Path, tracker: Tracker) -> Study:
    return Study(storage, tracker)


@pytest.fixture(scope="module")
def searched(study: Study) -> StudySummary:
    return study.run(name="searched")


def test_all_trials_end_and_the_best_is_the_best(searched: StudySummary):
    assert [trial.number for trial in searched.trials] == list(range(6))
    assert {trial.state for trial in searched.trials} == {"complete"}
    assert searched.best is not None
    assert searched.best.objective == max(trial.objective or -1 for trial in searched.trials)
    assert searched.best.objective > 0.3
    first = searched.trials[0].params
    assert first == {"prompt.mode": "ensemble", "prompt.sigma_ratio": 0.5, "optim.lr": 1e-3}  # the default comes first


def test_the_database_says_the_same(searched: StudySummary):
    stored = optuna.load_study(study_name="searched", storage=open_journal(searched.folder / "study.journal"))
    assert [(trial.number, trial.state, trial.value) for trial in stored.trials] == [
        (trial.number, TrialState.COMPLETE, trial.objective) for trial in searched.trials
    ]
    last = SMALL["optim.epochs"]
    for trial in stored.trials:  # a value for each report of its worker, every two seconds or so; the last is the end
        assert set(trial.intermediate_values) <= set(range(1, last + 1))
        assert trial.intermediate_values[last] == trial.value


def test_the_kept_model_is_the_one_that_was_scored(searched: StudySummary):
    best, data = searched.best, planted_data()
    assert best is not None
    package = load_package(searched.folder / "trials" / f"{best.number:05d}" / "seed-0")
    scores = evaluate(
        predict_split(package.model, data.validation, package.config.window), data.validation, package.grid
    )
    assert scores.p == pytest.approx(best.objective, abs=1e-6)


def test_mlflow_has_a_run_for_the_study_and_a_child_for_each_trial(study: Study, searched: StudySummary):
    root = study.root("searched")
    assert root.info.status == "FINISHED"
    children = {int(run.data.tags["trial"]): run for run in study.runs(root.info.run_id)}
    assert sorted(children) == list(range(6))
    for number, run in children.items():
        record = searched.trials[number]
        assert run.info.status == "FINISHED"
        assert float(run.data.params["optim.lr"]) == pytest.approx(float(record.params["optim.lr"]))
        assert run.data.params["model.hidden_dim"] == "8"
        history = study.client.get_metric_history(run.info.run_id, "val/p")
        assert [(point.step, point.value) for point in history] == [
            (row["epoch"], row["val/p"]) for row in record.seeds[0].history
        ]
        assert run.data.metrics["best/p"] == record.score("val/p")
        assert {"commit", "data", "version.torch", "version.ray"} <= run.data.tags.keys()


def test_mlflow_names_its_runs_and_says_what_they_are(study: Study, searched: StudySummary):
    root = study.root("searched")
    assert root.data.tags["affectgrid.level"] == "study"
    assert searched.best is not None
    note = root.data.tags["mlflow.note.content"]
    assert headline(searched) in note
    assert f"trial {searched.best.number}, P {searched.best.objective:.3f}" in note
    for run in study.runs(root.info.run_id):
        record = searched.trials[int(run.data.tags["trial"])]
        p = f"{record.objective:.3f}".removeprefix("0")
        assert run.info.run_name.startswith(f"#{record.number:02d} P {p} ")
        assert {"mlflow.source.name", "mlflow.source.git.commit", "mlflow.user"} <= run.data.tags.keys()
        assert run.data.tags["affectgrid.study"] == "searched"
        assert ("evaluate.py" in run.data.tags.get("mlflow.note.content", "")) == (record == searched.best)


def test_mlflow_has_the_trials_own_times_and_the_course_of_the_search(study: Study, searched: StudySummary):
    root = study.root("searched")
    for run in study.runs(root.info.run_id):
        record = searched.trials[int(run.data.tags["trial"])]
        took_s = (run.info.end_time - run.info.start_time) / 1000
        assert took_s == pytest.approx(record.duration_s, abs=2.0)  # the driver learns a moment later that it began
        assert run.info.end_time == int(1000 * (record.began_at + record.duration_s))
    course, best = (
        sorted((point.step, point.value) for point in study.client.get_metric_history(root.info.run_id, name))
        for name in ("trial/p", "best/p")
    )
    assert course == [(trial.number, pytest.approx(trial.objective)) for trial in searched.trials]
    assert [value for _, value in best[:-1]] == list(
        itertools.accumulate((trial.objective for trial in searched.trials), max)
    )
    assert root.data.metrics["best/p"] == pytest.approx(searched.best.objective, abs=1e-6)


def test_mlflow_lists_the_data_and_keeps_a_space_that_can_be_searched_again(
    study: Study, searched: StudySummary, tmp_path: Path
):
    root = study.root("searched")
    data = planted_data()
    for run in [root, *study.runs(root.info.run_id)]:
        used = {one.dataset.name: one for one in run.inputs.dataset_inputs}
        assert set(used) == {"train", "validation"}
        profile = json.loads(used["train"].dataset.profile)
        assert profile == {
            "tracks": data.train.num_tracks,
            "frames": data.train.num_frames,
            "labelled": int(data.train.labelled.sum()),
        }
        assert used["train"].tags[0].value == "train"
        assert json.loads(used["train"].dataset.source)["visual"] == "planted"
    kept = study.client.download_artifacts(root.info.run_id, "config/space.yaml", str(tmp_path))
    again = load_space(Path(kept))
    assert again.identity() == searched.space
    splits = study.client.download_artifacts(root.info.run_id, "config/splits.csv", str(tmp_path))
    assert Path(splits).read_text() == PLANTED_SPLITS


def test_mlflow_has_the_figures_of_the_best_trial_twice(study: Study, searched: StudySummary):
    root = study.root("searched")
    figures = {f"{name}.png" for name in ("plane", "traces", "fusion", "learning-curves", "search")}
    if (searched.folder / "best" / "prompt-angles.png").exists():  # where the best trial has a prompt head
        figures.add("prompt-angles.png")
    searched_for = {"slices.png", "parallel.png"}  # too few trials for importance
    assert study.artifacts(root.info.run_id, "figures") == figures | searched_for
    assert study.artifacts(root.info.run_id, "report") == {"report.html", "figures.html", "summary.json"}
    assert searched.best is not None
    (best,) = [run for run in study.runs(root.info.run_id) if run.data.tags["trial"] == str(searched.best.number)]
    assert study.artifacts(best.info.run_id, "figures") == figures
    assert "model.safetensors" in study.artifacts(best.info.run_id, "model")


def test_mlflow_has_the_best_model_and_on_request_every_ones_and_a_champion(study: Study, searched: StudySummary):
    assert searched.best is not None

    def names() -> set[str]:
        found = study.client.search_logged_models([study.tracker.experiment_id])
        return {model.name for model in found if model.name.startswith("searched ")}

    assert names() == {f"searched trial {searched.best.number}"}
    space, wanted = parse_space(SPACE | {"name": "searched"}), LogModelsOption(register_as="affect", log_models="all")
    tune(space, planted_data(), storage=study.storage, tracker=study.tracker, models=wanted)
    assert names() == {f"searched trial {trial.number}" for trial in searched.complete}
    folder = study.tracker.fetch_model("models:/affect@champion")
    best = searched.folder / "best" / "model"
    assert (folder / "model.safetensors").read_bytes() == (best / "model.safetensors").read_bytes()
    assert f"Chosen among {len(searched.complete)} trials" in (folder / "README.md").read_text()


def test_the_same_command_does_nothing_and_more_trials_are_added(study: Study, searched: StudySummary):
    again = study.run(name="searched")
    assert again.trials == searched.trials
    more = study.run(name="searched", trials=8)
    assert more.trials[:6] == searched.trials
    assert [trial.number for trial in more.trials] == list(range(8))
    assert len(study.runs(study.root("searched").info.run_id)) == 8


def test_another_space_under_the_same_name_is_refused(study: Study, searched: StudySummary):
    with pytest.raises(ConfigError, match=r"STUDY-CHANGED .*seeds: \[0\] is now \[0, 1\].*use another name"):
        study.run(name="searched", seeds=[0, 1])


def test_seeds_are_grandchildren_and_their_mean_is_the_objective(study: Study):
    summary = study.run(name="seeded", trials=2, seeds=[3, 4])
    for trial in summary.trials:
        assert [seed.seed for seed in trial.seeds] == [3, 4]
        assert trial.objective == pytest.approx(sum(seed.best["val/p"] for seed in trial.seeds) / 2)
        assert trial.seeds[0].history != trial.seeds[1].history
    for run in study.runs(study.root("seeded").info.run_id):
        seeds = study.runs(run.info.run_id)
        assert {seed.data.params["seed"] for seed in seeds} == {"3", "4"}
        assert all(seed.data.metrics["val/p"] > -1 for seed in seeds)


def test_arms_run_with_each_seed_and_bad_ones_fail_alone(study: Study, capsys: pytest.CaptureFixture[str]):
    arms = [
        {"name": "full"},
        {"name": "audio only", "set": {"model.streams": ["audio"]}},
        {"name": "diverges", "set": {"optim.lr": 1e30, "optim.clip_norm": 1e30}},
        {"name": "raises", "set": {"prompt.file": "absent"}},
        {"name": "too large", "set": {"model.hidden_dim": 8_000_000}},
    ]
    content = {"name": "armed", "seeds": [0, 1], "base": SMALL, "arms": arms}
    summary = tune(parse_space(content), planted_data(), storage=study.storage, tracker=study.tracker)
    assert len(summary.trials) == 10
    reasons = {trial.label: trial.reason or "" for trial in summary.failed}
    assert sorted(reasons) == [
        f"{name}, seed {seed}" for name in ("diverges", "raises", "too large") for seed in (0, 1)
    ]
    assert "TRAIN-NAN" in reasons["diverges, seed 0"]
    assert "KeyError: 'absent'" in reasons["raises, seed 1"]
    assert "memory" in reasons["too large, seed 0"]
    rows = {row["arm"]: row for row in arm_rows(summary)}
    assert rows["full"]["seeds"] == rows["audio only"]["seeds"] == "2"
    assert "±" in rows["full"]["P"]
    stored = optuna.load_study(study_name="armed", storage=open_journal(summary.folder / "study.journal"))
    assert sorted(trial.state.name for trial in stored.trials) == ["COMPLETE"] * 4 + ["FAIL"] * 6
    statuses = sorted(run.info.status for run in study.runs(study.root("armed").info.run_id))
    assert statuses == ["FAILED"] * 6 + ["FINISHED"] * 4
    assert "FAILED: " in capsys.readouterr().out
    assert (summary.folder / "trials" / "00002" / "error.txt").exists()


def test_a_front_between_p_and_the_costs_of_every_width(study: Study):
    goals = [{"maximize": "val/p_best"}, {"minimize": "parameters"}, {"minimize": "latency_ms"}]
    widths = {"model.hidden_dim": {"int": [4, 12], "step": 4}}
    constants = {name: value for name, value in SMALL.items() if name != "model.hidden_dim"}
    changes = {"space": widths, "constants": constants, "points": [], "trials": None}
    summary = study.run(name="fronted", sampler="grid", objective=goals, **changes)
    assert sorted(trial.params["model.hidden_dim"] for trial in summary.trials) == [4, 8, 12]
    sizes = {trial.params["model.hidden_dim"]: trial.costs["parameters"] for trial in summary.trials}
    assert sizes[4] < sizes[8] < sizes[12]
    stored = optuna.load_study(study_name="fronted", storage=open_journal(summary.folder / "study.journal"))
    assert {point.trial for point in summary.pareto} == {trial.number for trial in stored.best_trials}
    smallest = next(trial for trial in summary.trials if trial.params["model.hidden_dim"] == 4)
    assert smallest.number in {point.trial for point in summary.pareto}
    pictures = study.artifacts(study.root("fronted").info.run_id, "figures")
    assert {"pareto-parameters.png", "pareto-latency-ms.png"} <= pictures


def test_a_time_budget_ends_a_study_and_a_larger_one_goes_on(study: Study):
    short = study.run(name="timed", trials=None, time_budget="0.5s")  # the first trial begins in any case
    num_ended = len(short.trials)
    assert short.finished
    assert num_ended >= 1
    assert {trial.state for trial in short.trials} == {"complete"}
    assert study.run(name="timed", trials=None, time_budget="0.5s").trials == short.trials
    longer = study.run(name="timed", trials=num_ended + 1, time_budget="1h")
    assert longer.trials[:num_ended] == short.trials
    assert (len(longer.trials), longer.out_of_time) == (num_ended + 1, False)


def test_an_older_study_teaches_and_a_finished_one_is_extended(
    study: Study, searched: StudySummary, capsys: pytest.CaptureFixture[str]
):
    space = parse_space(SPACE | {"name": "taught", "trials": 2, "pruner": "median"})
    options = {"storage": study.storage, "tracker": study.tracker}
    num_old = len(StudySummary.read(searched.folder).trials)
    first = tune(space, planted_data(), warm_start=searched.folder, **options)
    assert f"warm start from searched: {num_old} of {num_old} trials are compatible" in capsys.readouterr().out
    assert [trial.number for trial in first.trials] == [0, 1]
    more = tune(space, planted_data(), warm_start=searched.folder, extend=1, **options)
    assert more.trials[:2] == first.trials
    assert (len(more.trials), more.num_planned) == (3, 3)
    stored = open_journal(first.folder / "study.journal")
    assert sorted(optuna.get_all_study_names(stored)) == ["taught", "taught: warm start"]
    assert len(optuna.load_study(study_name="taught: warm start", storage=stored).trials) == num_old


def test_asha_ends_weak_trials_early_and_never_the_winner(study: Study):
    dimension = {"optim.lr": {"float": [1e-6, 3e-2], "log": True}}
    changes = {"space": dimension, "constants": {**SMALL, "optim.epochs": 9}, "sampler": "random"}
    summary = study.run(name="pruned", pruner="asha", trials=10, points=[{"optim.lr": 0.02}], **changes)
    assert len(summary.trials) == 10
    assert summary.pruned
    assert all(len(trial.seeds[0].history) < 9 for trial in summary.pruned)
    assert all(len(trial.seeds[0].history) == 9 for trial in summary.complete)
    assert not summary.failed


def test_the_summary_file_can_be_read(searched: StudySummary):
    content = json.loads((searched.folder / "summary.json").read_text())
    assert content["name"] == "searched"
    assert content["space"]["seeds"] == [0]
    assert len(content["trials"]) >= 6


def test_a_study_is_read_back_from_its_folder(searched: StudySummary):
    again = {trial.number: trial for trial in StudySummary.read(searched.folder).trials}
    assert all(again[trial.number] == trial for trial in searched.trials)  # a test above has added others since


def test_the_best_model_lies_under_a_name_that_stays(searched: StudySummary):
    assert searched.best is not None
    package = load_package(searched.folder / "best" / "model")
    assert package.metrics["val/p"] == searched.best.score("val/p")


def test_the_winner_and_the_default_are_confirmed_with_fresh_seeds(study: Study, searched: StudySummary):
    space = parse_space(SPACE | {"name": "searched", "trials": 8})

    def confirm(count: int) -> StudySummary:
        return tune(space, planted_data(), storage=study.storage, tracker=study.tracker, num_confirm=count)

    first = confirm(2)
    found, confirmed = first.confirmation, confirmation_tables(first.confirmation)
    assert found is not None
    assert found.winner is not None
    assert first.best is not None
    assert found.winner.values == first.best.params
    assert found.winner.seen == first.best.objective
    assert found.default.seen == first.trials[0].objective
    seeds = [run.seed for run in found.winner.runs]
    assert seeds == [run.seed for run in found.default.runs]
    assert len(seeds) == 2
    assert 0 not in seeds  # the search's own
    difference = found.difference
    assert difference is not None
    assert difference.num_comparisons == 7
    means = [sum(one.scores) / 2 for one in (found.winner, found.default)]
    assert difference.estimate == pytest.approx(means[0] - means[1], abs=1e-6)  # moments and `fit` agree

    files = sorted((first.folder / "confirm").glob("*/seed-*.json"))
    before = {file: file.stat().st_mtime_ns for file in files}
    files[0].unlink()  # as a kill leaves it
    again = confirm(2)
    assert confirmation_tables(again.confirmation) == confirmed  # the same seed, the same run
    assert {file for file in files if file.stat().st_mtime_ns != before[file]} == {files[0]}
    assert confirmation_tables(study.run(name="searched", trials=8).confirmation) == confirmed  # it is not lost
    content = json.loads((first.folder / "summary.json").read_text())
    assert content["confirmation"]["winner"]["seen"] == first.best.objective
    assert "Confirmation" in (first.folder / "report.html").read_text()

    parents = {run.info.run_name: run for run in study.runs(study.root("searched").info.run_id)}
    for role in ("winner", "default"):
        grandchildren = study.runs(parents[f"confirm: {role}"].info.run_id)
        assert sorted(int(run.data.params["seed"]) for run in grandchildren) == sorted(seeds)
        assert {run.info.status for run in grandchildren} == {"FINISHED"}


def test_features_are_one_copy_in_shared_memory_that_nobody_can_write(ray: None):
    def features_of(data: Any) -> tuple[bool, bool]:
        """Whether they are memory of the process, and whether they can be written."""
        return data.train.streams["visual"].feature.flags.owndata, data.train.streams["visual"].feature.flags.writeable

    placed, reference = ray_core.remote(features_of), ray_core.put(planted_data())
    assert ray_core.get([placed.remote(reference) for _ in range(2)]) == [(False, False)] * 2


def test_every_trial_knows_its_worker_and_waits_are_counted(searched: StudySummary):
    workers = {trial.worker for trial in searched.trials}
    assert 1 <= len(workers) <= 2
    waits = waits_s(searched.trials)
    assert len(waits) == len(searched.trials) - len(workers)
    assert min(waits) >= -0.01  # two clocks: the trial's end is its beginning plus a duration


@pytest.mark.long
def test_a_trial_of_two_workers_is_the_trial_of_one(study: Study):
    def run(name: str, workers: int) -> StudySummary:
        space = parse_space(SPACE | {"name": name, "trials": 1})
        placed = TrialResources(workers=workers)
        return tune(space, planted_data(), storage=study.storage, tracker=study.tracker, resources=placed)

    (one,), (two,) = run("alone", 1).trials, run("together", 2).trials
    assert two.state == "complete", two.reason
    assert [row["epoch"] for row in two.seeds[0].history] == [row["epoch"] for row in one.seeds[0].history]
    assert two.objective == pytest.approx(one.objective, abs=0.02)  # one batch, summed in another order
    assert load_package(study.storage / "together" / "trials" / "00000" / "seed-0").metrics["val/p"] == two.objective
