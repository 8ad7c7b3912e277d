"""An evaluation on the terminal, as one HTML page, and its tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from affectgrid import storage
from affectgrid.analysis.evaluation import Compared, Evaluation
from affectgrid.metrics import Metrics
from affectgrid.reporting import figures, html
from affectgrid.reporting.caveat import caveat
from affectgrid.reporting.scores.comparison import comparison_table, group_table, robustness_table
from affectgrid.reporting.scores.model import (
    draw_predictions,
    ensemble_lines,
    region_table,
    score_table,
    smoothing_lines,
)
from affectgrid.reporting.scores.worst import draw_worst
from affectgrid.reporting.tables import Table
from affectgrid.settings import flatten
from affectgrid.storage import Storage
from affectgrid.training.config import TrainConfig
from affectgrid.training.inference.ensemble import Ensemble

_CURVES = "Training loss and validation CCC by epoch; the dot is the epoch that was kept"
_ORIGIN = ("command", "commit", "data", "device", "started")
_FORMATS = {"md": Table.markdown, "tex": Table.latex, "csv": Table.csv}


def evaluation_tables(done: Evaluation) -> dict[str, Table]:
    """Every table by the name of its files."""
    tables = {"scores": score_table(done.scores), "regions": region_table(done.scores)}
    if done.compared:
        tables["models"] = comparison_table(done.compared)
    if done.robustness:
        tables["robustness"] = robustness_table(done.robustness)
    if done.people:
        tables["people"] = group_table("Within each person", "person", done.people)
    tables["tracks"] = group_table("Within each track", "track", done.tracks)
    return tables


def print_evaluation(done: Evaluation, note: str, address: str, *, console: Console | None = None) -> None:
    """The tables but that of the tracks, where the files are, and what was chosen on the validation split."""
    console = console or Console()
    tables = evaluation_tables(done)
    tables["scores"] = dataclasses.replace(tables["scores"], note=note)
    for name, table in tables.items():
        if name != "tracks":
            console.print(table.rich())
    lines = [f"report   {address}/report.html", f"tables   {address}/tables/ as Markdown, LaTeX and CSV"]
    for line in (*lines, *ensemble_lines(done.ensemble, done.member_p), *smoothing_lines(done.curve)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def evaluation_note(models: Sequence[Ensemble], data: str) -> str:
    """What must stand beside scores of `models`; `data` as it is called on the command line."""
    used = {name for one in models for encoders in one.encoders for name in encoders.values()}
    return caveat(used, rendered=data == "rendered")


def write_evaluation(
    place: Storage, done: Evaluation, note: str, histories: Mapping[str, Sequence[Metrics]] | None = None
) -> None:
    """``scores.json``, ``report.html`` with figures, and ``tables/<name>.md``, ``.tex`` and ``.csv``.

    `histories` holds the metrics of every epoch of a run that has just been trained, by its name.
    """
    with storage.results(place) as folder:
        _write(folder, done, note, histories or {})


def _write(folder: Path, done: Evaluation, note: str, histories: Mapping[str, Sequence[Metrics]]) -> None:
    tables = evaluation_tables(done)
    grid = done.ensemble.members[0].grid
    pictures = draw_predictions(folder, done.scores, done.predictions, done.split, grid)
    pictures += draw_worst(folder, done.worst)
    if histories:
        pictures.append(figures.picture(figures.learning_curves(histories), folder / "learning-curves.png", _CURVES))
    first = html.Section(f"Split {done.split.name}", (), [tables["scores"], tables["regions"]], pictures)
    headings = {"models": "Models compared", "robustness": "Robustness", "people": "People", "tracks": "Tracks"}
    rest = [html.Section(words, (), [tables[name]]) for name, words in headings.items() if name in tables]
    sections = [first, *rest, *_origins(done.ensemble)]
    title = f"Run {', '.join(histories)}" if histories else f"Scores on {done.split.name}"
    html.write(folder / "report.html", title, sections, caveat=note)
    with storage.replace_directory(folder / "tables") as draft:  # of an evaluation before this one nothing stays
        for name, table in tables.items():
            for ending, write in _FORMATS.items():
                storage.write_atomic(draft / f"{name}.{ending}", write(table))
    groups = {kind: [dataclasses.asdict(one) for one in getattr(done, kind)] for kind in ("tracks", "people")}
    compared = {kind: [_plain(one) for one in getattr(done, kind)] for kind in ("compared", "robustness")}
    content = dataclasses.asdict(done.scores) | groups | compared
    storage.write_json(folder / "scores.json", content)


def _origins(ensemble: Ensemble) -> list[html.Section]:
    """Of each model what made it, and its configuration."""
    sections, default = [], flatten(TrainConfig())
    for place, member in zip(ensemble.places, ensemble.members, strict=True):
        origin = member.manifest or {}
        versions = ", ".join(f"{name} {version}" for name, version in origin.get("versions", {}).items())
        facts = [("model", place.address), *((name, str(origin.get(name, ""))) for name in _ORIGIN)]
        facts.append(("versions", versions))
        own = {name: value for name, value in flatten(member.config).items() if value != default[name]}
        config = yaml.safe_dump(own, sort_keys=False, allow_unicode=True)
        known, code = [fact for fact in facts if fact[1]], [("Its settings, where they are not the defaults:", config)]
        sections.append(html.Section("How the model was made", facts=known, code=code))
    return sections


def _plain(one: Compared) -> dict[str, Any]:
    plain = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
    return plain | {"difference": one.difference and one.difference.model_dump()}
