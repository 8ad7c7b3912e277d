"""The pictures of a study: its best model on the validation split, the front, and the search's findings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch.nn.functional import normalize

from affectgrid.analysis.evaluation import worst_frames
from affectgrid.analysis.importance import MIN_TRIALS, ParameterImportance
from affectgrid.analysis.slices import Effect, Parallel, SigmaByGrid
from affectgrid.data.catalog import Track
from affectgrid.data.splits.resident import Split
from affectgrid.reporting.figures import fusion, learning_curves, picture
from affectgrid.reporting.html import Picture
from affectgrid.reporting.look.course import write_rows
from affectgrid.reporting.scores import draw_predictions, draw_worst
from affectgrid.reporting.study import figures
from affectgrid.search.space.objective import HEADINGS
from affectgrid.training.inference.explain import look_inside
from affectgrid.training.inference.package import ModelPackage
from affectgrid.training.inference.predict import Scores, evaluate, predict_split

_WORDS = {
    "fusion": "Fusion in the track of median P: which stream the gates trust, and which frames attend to which",
    "prompt-angles": "Cosine between the text features of every two regions: all that the logits know of the texts",
    "learning-curves": "Training loss and validation CCC by epoch; the dot is the epoch that was kept",
    "search": "Validation P of each trial, and the best so far",
    "parallel": "Every complete trial over every searched parameter, dark where P is high; –: not active",
    "importance": "Share of each parameter in the importance (PED-ANOVA); grey: not above what shuffled scores show",
    "slices": "Validation P of every complete trial against each parameter that was active in it",
    "sigma-by-grid": "Validation P over kernel sigma for each grid: trials as dots, a local mean where trials are near",
}


@dataclasses.dataclass(frozen=True)
class BestModel:
    """The best model of a study on the validation split, with its figures."""

    scores: Scores
    pictures: tuple[Picture, ...]


@dataclasses.dataclass(frozen=True)
class SearchFigures:
    """The search's findings beside its best model; `words` say what is not drawn, and why."""

    pictures: tuple[Picture, ...] = ()
    words: tuple[str, ...] = ()


def draw_best(
    package: ModelPackage,
    validation: Split,
    folder: Path,
    *,
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    course: Mapping[int, float],
    media: Mapping[str, Track] | None = None,
) -> BestModel:
    """Predict the validation split with the best model, and draw its predictions and the course of the search.

    The predictions are kept too, for jobs/look.py, as predictions.parquet.

    Args:
        package: the best trial's model.
        validation: the split that it predicts.
        folder: where the PNG files go.
        histories: the metrics of every epoch of the best trial, by the name of the run.
        course: the objective of every trial that has one, by its number.
        media: tracks of the split with their files, by id, for pictures of the worst frames.
    """
    predictions = predict_split(package.model, validation, package.config.window)
    scores = evaluate(predictions, validation, package.grid)
    drawn = {
        **_fusion_figure(package, validation, scores),
        **_prompt_figure(package),
        "learning-curves": learning_curves(histories),
        "search": figures.search_course(list(course), list(course.values())),
    }
    write_rows(folder / "predictions.parquet", validation, predictions.va.numpy())
    predicted = draw_predictions(folder, scores, predictions, validation, package.grid)
    worst = draw_worst(folder, worst_frames(predictions, validation, media or {}))
    return BestModel(scores, (*predicted, *worst, *_save(folder, drawn)))


def _prompt_figure(package: ModelPackage) -> dict[str, Figure]:
    head = package.model.prompt_head
    if head is None:
        return {}
    texts = normalize(head.text_features.detach().float(), dim=-1)
    return {"prompt-angles": figures.prompt_angles((texts @ texts.T).numpy(), package.grid.names)}


def _fusion_figure(package: ModelPackage, validation: Split, scores: Scores) -> dict[str, Figure]:
    """Of the track with the median P of its own, where the model has fusion blocks."""
    ranked = sorted((p, track) for track, p in scores.track_p.items() if not math.isnan(p))
    if not ranked:
        return {}
    view = look_inside(package.model, validation, ranked[len(ranked) // 2][1], package.config.window)
    return {} if view is None else {"fusion": fusion(view)}


def add_front(
    best: BestModel,
    folder: Path,
    points: Mapping[str, Mapping[int, tuple[float, float]]],
    front: Sequence[int],
) -> BestModel:
    """Draw the Pareto front, once for each cost.

    Args:
        best: what is already drawn.
        folder: where the PNG files go.
        points: metric of a cost -> trial -> its cost and its score.
        front: numbers of the trials that no other beats.
    """
    pictures = []
    for metric, places in points.items():
        cost, costs = HEADINGS[metric], [place[0] for place in places.values()]
        figure = figures.pareto(places, front, labels=(cost, "validation P"), log=max(costs) > 10 * min(costs))
        words = f"Validation P of each trial over its {cost}; no other trial beats those on the line"
        pictures.append(picture(figure, folder / f"pareto-{cost.replace(' ', '-')}.png", words))
    return dataclasses.replace(best, pictures=(*best.pictures, *pictures))


def draw_search(
    folder: Path,
    importances: Sequence[ParameterImportance],
    effects: Sequence[Effect],
    sigma_by_grid: SigmaByGrid | None,
    parallel: Parallel | None = None,
) -> SearchFigures:
    """Parallel coordinates, importance, slices, and sigma by grid.

    Args:
        folder: where the PNG files go.
        importances: of the parameters, the most important first; empty: no picture.
        effects: P against each parameter; empty: no picture.
        sigma_by_grid: P over both; None where they are not searched together.
        parallel: every parameter of every trial; None, or fewer than two trials: no picture.
    """
    drawn: dict[str, Figure] = {}
    words: list[str] = []
    if parallel is not None and len(parallel.scores) > 1:
        drawn["parallel"] = figures.parallel(parallel)
    if importances:
        drawn["importance"] = figures.importances(importances)
    if effects:
        drawn["slices"] = figures.slices(effects)
    if sigma_by_grid is not None and len(sigma_by_grid.scores) >= MIN_TRIALS:
        drawn["sigma-by-grid"] = figures.sigma_by_grid(sigma_by_grid)
    elif sigma_by_grid is not None:
        words.append(
            f"No picture of sigma by grid: {len(sigma_by_grid.scores)} complete trials have both, and fewer than "
            f"{MIN_TRIALS} would show the sampler's path and not the effect."
        )
    return SearchFigures(tuple(_save(folder, drawn)), tuple(words))


def _save(folder: Path, drawn: Mapping[str, Figure]) -> list[Picture]:
    return [picture(figure, folder / f"{name}.png", _WORDS[name]) for name, figure in drawn.items()]
