"""Finalize a study that has ended: its summary, the analysis of its numbers, its figures and its report."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any

import yaml

from affectgrid.analysis.arms import compare_arms
from affectgrid.analysis.importance import Importance
from affectgrid.analysis.moments import read_moments
from affectgrid.analysis.optimism import choice_optimism
from affectgrid.analysis.ped_anova import importance
from affectgrid.analysis.slices import effects, parallel, sigma_by_grid
from affectgrid.analysis.summary import StudySummary
from affectgrid.distributed.options import LogModelsOption
from affectgrid.distributed.tune.mlflow_logger import StudyLog
from affectgrid.distributed.tune.recipe import write_recipe
from affectgrid.distributed.tune.trial import package_folder
from affectgrid.errors import ConfigError, ModelError
from affectgrid.reporting.study.card import model_card
from affectgrid.reporting.study.confirmation import confirmation_tables
from affectgrid.reporting.study.interactive import INTERACTIVE, WORDS, write_figures
from affectgrid.reporting.study.notes import study_note, trial_note
from affectgrid.reporting.study.pictures import BestModel, SearchFigures, add_front, draw_best, draw_search
from affectgrid.reporting.study.recipe import Recipe
from affectgrid.reporting.study.report import write_report
from affectgrid.reporting.study.tables import study_caveat
from affectgrid.reporting.tables import Table
from affectgrid.search.study.ledger import Ledger
from affectgrid.search.study.records import TrialRecord, front
from affectgrid.storage import Storage, replace_directory, write_atomic
from affectgrid.tracking import CARD
from affectgrid.training import manifest
from affectgrid.training.data import PreparedData
from affectgrid.training.inference.ensemble import load_ensemble, save_ensemble
from affectgrid.training.inference.package import load_package
from affectgrid.training.inference.predict import Scores

_log = logging.getLogger(__name__)
REPORT_LOGGED = "report.logged"  # the name of a file that says that MLflow has the report and the best model


def summarise(ledger: Ledger, data: PreparedData, facts: manifest.Manifest, wall_s: float) -> StudySummary:
    records = tuple(record for _, record in sorted(ledger.records.items()))
    summary = StudySummary(
        name=ledger.space.name,
        description=ledger.space.description,
        space=ledger.space.identity(),
        data=data.fingerprint,
        encoders=data.train.encoders,
        rendered=all(track.startswith("rendered-") for track in data.validation.track_ids),
        num_folds=len(data.parts) if len(data.parts) > 1 else 0,
        num_planned=len(records) if ledger.num_planned is None else ledger.num_planned,
        trials=records,
        pareto=front(records, ledger.space.objective),
        out_of_time=ledger.num_left != 0 and ledger.out_of_time,
        wall_s=wall_s,
        folder=ledger.folder,
        commit=facts.commit,
        command=facts.command,
        versions=facts.versions,
        importance=None if ledger.space.arms else _importance(ledger),
    )
    ledger.files.put(summary.write())
    return summary


def confirmed_before(ledger: Ledger) -> list[Table]:
    with contextlib.suppress(ConfigError, FileNotFoundError):
        ledger.files.fetch(ledger.folder / "summary.json", again=True)
        return confirmation_tables(StudySummary.read(ledger.folder).confirmation)
    return []


def from_moments(summary: StudySummary, ledger: Ledger) -> dict[str, Any]:
    """What the moments of the trials add to a summary: comparisons of arms, or the optimism of a search's choice."""
    moments = read_moments(ledger.files)
    if summary.arms:
        return {"differences": compare_arms(summary.arms, moments)}
    tried = [moments[trial.number] for trial in summary.complete if trial.number in moments]
    return {"choice_optimism": choice_optimism(tried)}


def report(summary: StudySummary, ledger: Ledger, data: PreparedData, log: StudyLog, models: LogModelsOption) -> None:
    """Figures and report, beside the study and in MLflow, which gets the best model too, or every trial's."""
    ledger.files.remove(ledger.folder / REPORT_LOGGED)
    drawn: BestModel | None = None
    recipe: Recipe | None = None
    if summary.best is not None:
        try:
            drawn = _draw(summary, summary.best, ledger, data, log)
            package = load_package(ledger.folder / "best" / "model")
            recipe = write_recipe(summary, summary.best, package, data.validation.track_ids, ledger.files)
            card = _write_card(summary, drawn.scores, ledger, data, models.register_as)
            log.note(f"{trial_note(summary, summary.best)}\n\n{card}", trial=summary.best.number)
            _log_models(summary, summary.best, ledger, log, models)
        except (ModelError, FileNotFoundError) as error:
            # made by another version of the code, before a kill: the scores still hold
            _log.warning("the figures of the best model cannot be drawn: %s", error)
    searched, interactive = _draw_search(summary, ledger, log), _draw_interactive(summary, ledger)
    if searched and interactive:
        searched = dataclasses.replace(searched, words=(*searched.words, WORDS))
    report = write_report(summary, drawn, searched, recipe)
    for path in (report, *interactive, ledger.folder / "best", ledger.folder / "search"):
        if path.exists():
            ledger.files.put(path)
    log.artifacts([report, *interactive, ledger.folder / "summary.json"], "report")
    splits = [write_atomic(ledger.folder / "splits.csv", data.splits)] if data.splits else []
    log.artifacts([_write_space(ledger), *splits], "config")
    log.note(study_note(summary, ledger.files.place.show("report.html")))
    log.later(lambda: log.mark(ledger.folder / REPORT_LOGGED, log.run) if log.complete else None)


def is_stale(report: Path, ledger: Ledger, log: StudyLog) -> bool:
    """Whether a kill came between the last trial and the report, or MLflow lacks the report or the best model."""
    try:
        logged = log.has(ledger.files.fetch(ledger.folder / REPORT_LOGGED, again=True))
    except FileNotFoundError:
        logged = False
    if not logged:
        return True
    ends = [(ledger.folder_of(number) / "trial.json").stat().st_mtime for number in ledger.records]
    return not report.exists() or max(ends, default=0.0) > report.stat().st_mtime


def _write_card(
    summary: StudySummary, scores: Scores, ledger: Ledger, data: PreparedData, registered: str | None
) -> str:
    """Beside the best model; with folds that is the first one's, and the card would say less than the ensemble's P."""
    if summary.num_folds:
        return ""
    chosen = f"Chosen among {len(summary.complete)} trials by the same videos, which flatters it."
    folder, splits = ledger.folder / "best" / "model", [data.train, data.validation]
    facts, note = manifest.collect(data=data.fingerprint), study_caveat(summary)
    text = model_card(
        summary.name, load_package(folder), scores, splits, facts, caveat=note, chosen=chosen, registered=registered
    )
    write_atomic(folder / CARD, text)
    return text


def _log_models(
    summary: StudySummary, best: TrialRecord, ledger: Ledger, log: StudyLog, models: LogModelsOption
) -> None:
    """Those of the trials that are asked for; with folds a trial has a model for each, and none is its own."""
    if summary.num_folds:
        return
    for trial in summary.complete if models.log_models == "all" else [best]:
        scores = {name: trial.score(f"val/{name}") for name in ("p", "ccc_valence", "ccc_arousal")}
        if trial.number == best.number:
            log.model(ledger.folder / "best" / "model", scores, trial=trial.number, register=models.register_as)
            continue
        package = ledger.files.fetch(package_folder(ledger.folder_of(trial.number), _best_seed(trial)))
        log.model(package, scores, trial=trial.number)


def _best_seed(trial: TrialRecord) -> int:
    return max(trial.seeds, key=lambda record: record.best["val/p"]).seed


def _keep_ensemble(draft: Path, ledger: Ledger, number: int, seed: int, num_folds: int) -> None:
    """The models of the other folds beside that of the first, and the file that names all of them."""
    places = [draft / "model"]
    for fold in range(1, num_folds):
        package = ledger.files.fetch(package_folder(ledger.folder_of(number), seed, fold))
        shutil.copytree(package, draft / f"fold-{fold}" / "model")
        places.append(draft / f"fold-{fold}" / "model")
    save_ensemble(Storage(draft / "ensemble.json"), load_ensemble(places))


def _write_space(ledger: Ledger) -> Path:
    """The space as it can be given to a search again."""
    content = {"name": ledger.space.name, "trials": ledger.num_planned, **ledger.space.identity()}
    known = {name: value for name, value in content.items() if value is not None}
    text = yaml.safe_dump(known, sort_keys=False, allow_unicode=True)
    return write_atomic(ledger.folder / "space.yaml", text)


def _importance(ledger: Ledger) -> Importance:
    complete = {number: record for number, record in ledger.records.items() if record.state == "complete"}
    scores = {number: record.objective for number, record in complete.items() if record.objective is not None}
    return importance(ledger.study.get_trials(deepcopy=False), scores)


def _draw_search(summary: StudySummary, ledger: Ledger, log: StudyLog) -> SearchFigures | None:
    if summary.importance is None:
        return None
    drawn = draw_search(
        ledger.folder / "search",
        summary.importance.parameters,
        effects(ledger.space, summary.trials),
        sigma_by_grid(ledger.space, summary.trials),
        parallel(ledger.space, summary.trials),
    )
    log.artifacts([picture.path for picture in drawn.pictures], "figures")
    return drawn


def _draw_interactive(summary: StudySummary, ledger: Ledger) -> list[Path]:
    """The page of figures for the mouse, where there is something to draw."""
    found = () if summary.importance is None else summary.importance.parameters
    path = ledger.folder / INTERACTIVE
    written = write_figures(path, f"Search of study {summary.name}", ledger.space, summary.trials, found)
    return [] if written is None else [written]


def _draw(summary: StudySummary, best: TrialRecord, ledger: Ledger, data: PreparedData, log: StudyLog) -> BestModel:
    seed = _best_seed(best)
    package = ledger.files.fetch(package_folder(ledger.folder_of(best.number), seed))
    # A copy under a fixed name, for evaluate and predict.
    with replace_directory(ledger.folder / "best") as draft:
        shutil.copytree(package, draft / "model")
        if summary.num_folds:
            _keep_ensemble(draft, ledger, best.number, seed, summary.num_folds)
    drawn = draw_best(
        load_package(package),
        data.validation,
        ledger.folder / "best",
        histories={f"seed {record.seed}": record.history for record in best.seeds},
        course={trial.number: trial.objective for trial in summary.trials if trial.objective is not None},
        media=data.media,
    )
    if summary.pareto:
        numbers = [point.trial for point in summary.pareto]
        drawn = add_front(drawn, ledger.folder / "best", summary.cost_points(), numbers)
    pictures = [picture.path for picture in drawn.pictures]
    log.artifacts(pictures, "figures")
    log.artifacts(pictures, "figures", trial=best.number)
    log.artifacts([package], "model", trial=best.number)
    scores = {f"best/{name.rpartition('/')[2]}": value for name, value in drawn.scores.as_metrics().items()}
    log.summary(scores, {"best_trial": best.number, "failed_trials": len(summary.failed)})
    return drawn
