"""From a study's record to the commands that use its best configuration."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml

from affectgrid.analysis.summary import StudySummary
from affectgrid.distributed.tune.recipe import config_options, write_recipe
from affectgrid.search.space import load_space
from affectgrid.search.space.reading import parse_space
from affectgrid.search.study.records import SeedRecord, TrialRecord
from affectgrid.settings import unflatten
from affectgrid.storage import Storage, WorkingCopy
from affectgrid.training.config import TrainConfig
from affectgrid.training.inference.package import ModelPackage

CHANGED = {
    "seed": 3,
    "prompt.sigma_ratio_arousal": 0.25,
    "prompt.context_shared": False,
    "window.random_offsets": True,
    "window.rate_hz": 12.5,
    "window.smooth_half_width_arousal": 0,
    "window.label_delay_arousal": 4,
    "model.streams": ["audio", "visual", "landmarks"],
    "model.stream_priors": [1.0, 2.5, 1e-05],
    "model.temporal": "gru",
    "loss.mse_weight": 1e-12,
}


def job_options(repository: Path, job: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"{job}_job", repository / "jobs" / f"{job}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its annotations are looked up
    spec.loader.exec_module(module)
    return getattr(module, job.title())


def test_a_configuration_survives_the_command_line(repository: Path):
    options = job_options(repository, "train")
    space = load_space(repository / "search_spaces" / "ablation.yaml")
    configs = [space.resolve(arm.set, seed=seed) for seed, arm in enumerate(space.arms)]
    configs.append(TrainConfig.model_validate(unflatten(CHANGED)))
    for config in configs:
        words = [word for option in config_options(config) for word in option]
        assert tyro.cli(options, args=words).config == config
    assert config_options(TrainConfig()) == []


@pytest.fixture
def summary(tmp_path: Path) -> StudySummary:
    scores = {"epoch": 1.0, "val/p": 0.5, "val/p_best": 0.5, "val/ccc_valence": 0.4, "val/ccc_arousal": 0.6}
    best = TrialRecord(
        number=7,
        label="x",
        state="complete",
        params={"optim.lr": 0.002, "prompt.context_shared": False},
        objective=0.5,
        seeds=(SeedRecord(seed=3, history=(scores,)),),
    )
    return StudySummary(
        name="small",
        space={"constants": {"model.hidden_dim": 16}},
        data="d",
        encoders={"visual": "tiny"},
        num_planned=1,
        trials=(best,),
        wall_s=1,
        folder=tmp_path / "out" / "studies" / "small",
        command="tune.py --data 'my data' --space x.yaml --trials=9 --out there --encode.visual.model tiny "
        "--on_bad_label=mask --confirm 5 --store /features --feed.mode mapped",
    )


def recipe_of(summary: StudySummary) -> Any:
    config = TrainConfig.model_validate(
        {"seed": 3, "model": {"hidden_dim": 16}, "optim": {"lr": 0.002}, "prompt": {"context_shared": False}}
    )
    package = ModelPackage(None, config, None, {}, {})  # type: ignore[arg-type]
    files = WorkingCopy(Storage(summary.folder))
    assert summary.best is not None
    return write_recipe(summary, summary.best, package, ["a", "b"], files), config


def test_the_commands_keep_what_the_study_was_told_of_its_data(repository: Path, summary: StudySummary):
    recipe, config = recipe_of(summary)
    lines = [shlex.split(command.replace("\\\n", " ")) for _, command in recipe.commands]
    assert [line[:2] for line in lines] == [["python", f"jobs/{job}.py"] for job in ("train", "evaluate", "predict")]
    train, evaluate, predict = (
        tyro.cli(job_options(repository, job), args=line[2:])
        for job, line in zip(("train", "evaluate", "predict"), lines, strict=True)
    )
    root, best = summary.folder.parents[1], summary.folder / "best"
    assert train.config == config
    assert {one.out for one in (train, evaluate, predict)} == {str(root)}
    assert (train.data, train.on_bad_label, train.store, train.feed.mode) == ("my data", "mask", "/features", "mapped")
    assert (train.encode.visual.model, train.name) == ("tiny", "small-best")
    assert (evaluate.data, evaluate.on_bad_label, evaluate.model) == ("my data", "mask", (str(best / "model"),))
    assert (predict.videos, predict.store) == (("my data",), "/features")
    assert predict.tracks == (best / "validation.txt",)
    assert predict.tracks[0].read_text() == "a\nb\n"
    wide = [line for _, command in recipe.commands for line in command.splitlines() if len(line) > 100]
    assert all(line.count(" --") == 1 for line in wide)  # one path may be as long as it is


def test_the_configuration_is_a_space_of_its_own(summary: StudySummary):
    recipe, config = recipe_of(summary)
    space = parse_space(yaml.safe_load((summary.folder / "best" / "best.yaml").read_text()))
    (seed,), (arm,) = space.seeds, space.arms
    assert space.resolve(arm.set, seed=seed) == config
    assert recipe.space == (summary.folder / "best" / "best.yaml").read_text()
    assert "trial 7 of the study small" in recipe.space


def test_a_study_with_folds_is_an_ensemble_and_has_seen_its_validation_tracks(summary: StudySummary):
    folded = summary.model_copy(update={"num_folds": 3, "command": "tune.py --folds 3"})
    recipe, _ = recipe_of(folded)
    train, predict = (command for _, command in recipe.commands)
    assert "--folds 3" in train
    assert "best/ensemble.json" in predict
    assert f"{summary.folder.parents[1]}/corpora/rendered" in predict  # where the default data are


def test_what_another_program_started_has_no_commands(summary: StudySummary):
    recipe, _ = recipe_of(summary.model_copy(update={"command": "pytest -q"}))
    assert recipe.commands == ()
