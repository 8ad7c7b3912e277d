"""What a finished study shows: tables on the terminal, figures of its best model, one HTML page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from matplotlib.figure import Figure
from rich.console import Console

from affectgrid.data.splits.resident import Split
from affectgrid.reporting import figures, html, search_figures
from affectgrid.reporting.scores import region_table, score_table, telling_tracks
from affectgrid.reporting.tables import Table
from affectgrid.training.inference.explain import look_inside
from affectgrid.training.inference.package import ModelPackage
from affectgrid.training.inference.predict import Scores, evaluate, predict_split

_LOG_WIDTH = 140  # of a file or `ray job logs`, which have no width of their own
Row = Mapping[str, str]


class StudyView(Protocol):
    """What is shown of a study; `search.summary.StudySummary` has it."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def commit(self) -> str: ...
    @property
    def command(self) -> str: ...
    @property
    def data(self) -> str: ...
    def headline(self) -> str: ...
    def caveat(self) -> str: ...
    def leaderboard(self, top: int = 10) -> Sequence[Row]: ...
    def pareto_table(self) -> Sequence[Row]: ...
    def arms_table(self) -> Sequence[Row]: ...
    def failures(self) -> Sequence[Row]: ...
    def confirmation_tables(self) -> Sequence[Sequence[Row]]: ...
    def confirmation_sentences(self) -> Sequence[str]: ...
    def importance_table(self) -> Sequence[Row]: ...
    def importance_note(self) -> str: ...


class Opens(Protocol):
    """An experiment log that says how to look at it; `tracking.Tracker` is one."""

    @property
    def open_command(self) -> str: ...


@dataclasses.dataclass(frozen=True)
class BestModel:
    """The best model of a study on the validation split, with its figures."""

    scores: Scores
    pictures: tuple[html.Picture, ...]


@dataclasses.dataclass(frozen=True)
class SearchFigures:
    """What the search shows beside its best model; `words` say what is not drawn, and why."""

    pictures: tuple[html.Picture, ...] = ()
    words: tuple[str, ...] = ()


def study_tables(study: StudyView) -> list[Table]:
    """The Pareto front or the arms where there are some, else the best trials; then the failures."""
    arms, caveat = study.arms_table(), study.caveat()
    spread = "mean ± standard deviation over the seeds"
    if any(key.startswith("P - ") for row in arms for key in row):
        spread += "; P - ...: paired bootstrap over tracks and seeds, 95 %; *: also when corrected for all arms"
    main = (
        Table.of("Arms", arms, note=f"{spread}; {caveat}" if caveat else spread)
        if arms
        else Table.of("Best trials", study.leaderboard(), note=caveat)
    )
    front = study.pareto_table()
    if front:
        note = "no other trial is at least as good in every objective and better in one"
        main = Table.of("Pareto front", front, note=f"{note}; {caveat}" if caveat else note)
    failures = study.failures()
    return [main, *([Table.of("Failed trials", failures)] if failures else [])]


def confirmation_tables(study: StudyView) -> list[Table]:
    """Winner and default with fresh seeds, and winner minus default; empty without a confirmation."""
    titles = ("Confirmed with fresh seeds", "Winner minus default")
    tables = study.confirmation_tables()
    return [
        Table.of(title, rows, note=note) for title, rows, note in zip(titles, tables, _CONFIRMED_NOTES, strict=False)
    ]


def print_study(study: StudyView, tracker: Opens, root: Path, *, console: Console | None = None) -> None:
    """Headline, tables, and where everything lies."""
    console = console or Console()
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    console.print(f"\n{study.headline()}", style="bold", highlight=False, markup=False)
    for table in study_tables(study):
        console.print(table.rich())
    for table in confirmation_tables(study):
        console.print(table.rich())
    for sentence in study.confirmation_sentences():
        console.print(sentence, highlight=False, markup=False)
    report = study.folder / "report.html"
    lines = [f"report   {report}"] if report.exists() else []
    lines += [f"files    {root}", f"MLflow   {tracker.open_command}"]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def draw_best(
    package: ModelPackage,
    validation: Split,
    folder: Path,
    *,
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    course: Mapping[int, float],
) -> BestModel:
    """Predict the validation split with the best model, and draw what it did and how the search went.

    Args:
        package: the best trial's model.
        validation: what it is drawn on.
        folder: where the PNG files go.
        histories: the metrics of every epoch of the best trial, by the name of the run.
        course: the objective of every trial that has one, by its number.
    """
    predictions = predict_split(package.model, validation, package.config.window)
    scores = evaluate(predictions, validation, package.grid)
    drawn = {
        "plane": figures.plane(
            predictions.va.numpy(),
            validation.va,
            validation.labelled,
            package.grid.centres,
            scores={"valence": scores.ccc_valence, "arousal": scores.ccc_arousal},
        ),
        "traces": figures.traces(telling_tracks(predictions, validation, scores)),
        **_fusion_figure(package, validation, scores),
        "learning-curves": figures.learning_curves(histories),
        "search": figures.search_course(list(course), list(course.values())),
    }
    words = {
        "plane": "Annotated and predicted frames on the plane with its regions, and their agreement on each axis",
        "traces": "Annotated and predicted valence and arousal over time: the best, the median and the worst track",
        "fusion": "Fusion in the track of median P: which stream the gates trust, and which frames attend to which",
        "learning-curves": "Training loss and validation CCC by epoch; the dot is the epoch that was kept",
        "search": "Validation P of each trial, and the best so far",
    }
    pictures = [
        html.Picture(figures.save(figure, folder / f"{name}.png"), words[name], words[name])
        for name, figure in drawn.items()
    ]
    return BestModel(scores, tuple(pictures))


def _fusion_figure(package: ModelPackage, validation: Split, scores: Scores) -> dict[str, Figure]:
    """Of the track with the median P of its own, where the model has fusion blocks."""
    ranked = sorted((p, track) for track, p in scores.track_p.items() if not math.isnan(p))
    if not ranked:
        return {}
    view = look_inside(package.model, validation, ranked[len(ranked) // 2][1], package.config.window)
    return {} if view is None else {"fusion": figures.fusion(view)}


def add_front(
    best: BestModel,
    folder: Path,
    points: Mapping[str, Mapping[int, tuple[float, float]]],
    front: Sequence[int],
) -> BestModel:
    """Draw the Pareto front, once for each cost.

    Args:
        best: what is drawn already.
        folder: where the PNG files go.
        points: name of a cost -> trial -> its cost and its score.
        front: numbers of the trials that no other beats.
    """
    pictures = []
    for cost, places in points.items():
        costs = [place[0] for place in places.values()]
        figure = figures.pareto(places, front, labels=(cost, "validation P"), log=max(costs) > 10 * min(costs))
        words = f"Validation P of each trial over its {cost}; no other trial beats those that are joined"
        name = f"pareto-{cost.replace(' ', '-')}.png"
        pictures.append(html.Picture(figures.save(figure, folder / name), words, words))
    return dataclasses.replace(best, pictures=(*best.pictures, *pictures))


def draw_search(
    folder: Path,
    importances: Sequence[search_figures.Weighed],
    points: Sequence[search_figures.Points],
    sigma_by_grid: tuple[Sequence[float], Sequence[str], Sequence[float]] | str,
) -> SearchFigures:
    """Importance, slices, and sigma by grid.

    Args:
        folder: where the PNG files go.
        importances: of the parameters, the most important first; empty: no picture.
        points: P against each parameter; empty: no picture.
        sigma_by_grid: sigma, grid and P of each trial, or why there is no picture of them.
    """
    drawn: dict[str, Figure] = {}
    if importances:
        drawn["importance"] = search_figures.importances(importances)
    if points:
        drawn["slices"] = search_figures.slices(points)
    if not isinstance(sigma_by_grid, str):
        drawn["sigma-by-grid"] = search_figures.sigma_by_grid(*sigma_by_grid)
    pictures = [
        html.Picture(figures.save(figure, folder / f"{name}.png"), _SEARCH_WORDS[name], _SEARCH_WORDS[name])
        for name, figure in drawn.items()
    ]
    return SearchFigures(tuple(pictures), (sigma_by_grid,) if isinstance(sigma_by_grid, str) and sigma_by_grid else ())


def write_report(study: StudyView, best: BestModel | None, search: SearchFigures | None = None) -> Path:
    """``report.html`` in the study's folder."""
    sections = [html.Section("Results", [study.headline(), study.description], study_tables(study))]
    if study.confirmation_tables():
        sections.append(html.Section("Confirmation", study.confirmation_sentences(), confirmation_tables(study)))
    if best is not None:
        tables = [score_table(best.scores, _OPTIMISM), region_table(best.scores)]
        sections.append(html.Section("The best model on the validation split", (), tables, best.pictures))
    if search is not None and (study.importance_note() or search.pictures):
        words = [*search.words, *([] if study.importance_table() else [study.importance_note()])]
        tables = (
            [Table.of("Importance", rows, note=study.importance_note())] if (rows := study.importance_table()) else []
        )
        sections.append(html.Section("What the searched settings did", words, tables, search.pictures))
    facts = [("command", study.command), ("commit", study.commit), ("data", study.data)]
    sections.append(html.Section("How to make it again", facts=facts))
    return html.write(study.folder / "report.html", f"Study {study.name}", sections, caveat=study.caveat())


_OPTIMISM = "The search picked this model on the same tracks, so these scores flatter it."
_CONFIRMED_NOTES = (
    "P as mean ± standard deviation over fresh seeds; seen: in the search; optimism: seen minus confirmed",
    "paired bootstrap over validation tracks, of the mean over the seeds of the pooled P; 'for n tried': Šidák's "
    "level, because the winner of n was picked on these tracks",
)
_SEARCH_WORDS = {
    "importance": "Share of each parameter in the importance (PED-ANOVA); grey: not above what shuffled scores show",
    "slices": "Validation P of every complete trial against each parameter that was active in it",
    "sigma-by-grid": "Validation P over kernel sigma for each grid: trials as dots, a local mean where trials are near",
}
