"""From a study's record to the commands that train, evaluate and predict with its best configuration."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from affectgrid.analysis.summary import StudySummary
from affectgrid.distributed.options import CatalogOptions, DataOptions, FoldsOption, StoreOption, TracksOption
from affectgrid.reporting.study.recipe import Recipe, command_line
from affectgrid.search.study.records import TrialRecord
from affectgrid.settings import flatten
from affectgrid.storage import WorkingCopy, write_atomic
from affectgrid.training.config import TrainConfig
from affectgrid.training.inference.package import ModelPackage

_JOB = "tune.py"
_SPACE, _TRACKS = "best.yaml", "validation.txt"  # beside the best model
Options = dict[str, list[str]]  # name without dashes -> its words


def write_recipe(
    summary: StudySummary, best: TrialRecord, package: ModelPackage, tracks: Iterable[str], files: WorkingCopy
) -> Recipe:
    """Beside the study's best model: a space with its configuration alone, and the names of the `tracks` to predict.

    Without commands where the study was not started by its job, for then nothing tells where its data are.
    """
    folder = files.folder / "best"
    space = _space(summary, best, package.config)
    write_atomic(folder / _SPACE, space)
    write_atomic(folder / _TRACKS, "".join(f"{track}\n" for track in tracks))
    script, *words = shlex.split(summary.command) or [""]
    commands = _commands(summary, package.config, _options(words), files) if Path(script).name == _JOB else ()
    return Recipe(space, files.place.show("best", _SPACE), commands)


def config_options(config: TrainConfig) -> list[list[str]]:
    """What `jobs/train.py` must be told for this configuration: what differs from the defaults."""
    default = flatten(TrainConfig())
    return [_option(name, value) for name, value in flatten(config).items() if value != default[name]]


def _option(name: str, value: Any) -> list[str]:
    *sections, last = name.replace("_", "-").split(".")
    if isinstance(value, bool):
        last = last if value else f"no-{last}"
    values = {bool: [], list: value}.get(type(value), [value])
    return [f"--{'.'.join(['config', *sections, last])}", *map(str, values)]


def _space(summary: StudySummary, best: TrialRecord, config: TrainConfig) -> str:
    constants = summary.space.get("constants")
    values = {**(constants if isinstance(constants, dict) else {}), **best.params}
    content = {
        "name": f"{summary.name[:59]}-best",
        "description": f"trial {best.number} of the study {summary.name}: validation P {best.score('val/p'):.3f}",
        "seeds": [config.seed],
        "constants": values,
        "arms": [{"name": "best"}],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _commands(
    summary: StudySummary, config: TrainConfig, given: Options, files: WorkingCopy
) -> tuple[tuple[str, str], ...]:
    root, best = files.place.split()[0].split()[0], files.place / "best"
    out = ["--out", root.address]
    model = ["--model", (best / ("ensemble.json" if summary.num_folds else "model")).address]
    data = _known(given, DataOptions, FoldsOption)
    train = [*data, ["--name", f"{summary.name}-best"], *config_options(config), out]
    commands = [("Train it again:", command_line("train", train))]
    if not summary.num_folds:  # with folds the models have learnt from these tracks
        scored = [model, *_known(given, CatalogOptions, StoreOption), out]
        commands.append(("Score it on the validation split:", command_line("evaluate", scored)))
    place = given.get("data", ["rendered"])[-1]
    predicted = [place if place != "rendered" else (root / "corpora" / "rendered").address]
    tracks = [["--tracks", str(best.path / _TRACKS)]] if best.path else _known(given, TracksOption)
    words = [predicted, model, *tracks, *_known(given, StoreOption), out]
    what = "Predict with it, here the validation tracks; videos or folders of your own go in their place:"
    return (*commands, (what, command_line("predict", words)))


def _options(words: Iterable[str]) -> Options:
    found: Options = {}
    latest: list[str] = []
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            latest = found[name.replace("_", "-")] = [value] if equals else []
        else:
            latest.append(word)
    return found


def _known(given: Mapping[str, list[str]], *models: type[Any]) -> list[list[str]]:
    """Those of the options that are fields of the models, or of what is in such a field."""
    names = {field.replace("_", "-") for model in models for field in model.model_fields}
    return [[f"--{name}", *values] for name, values in given.items() if name.partition(".")[0] in names]
