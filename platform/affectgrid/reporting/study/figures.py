"""Figures of a search: its course, its Pareto front, and the effect of the searched parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter

from affectgrid.analysis.importance import ParameterImportance
from affectgrid.analysis.slices import Axis, Effect, Parallel, SigmaByGrid
from affectgrid.reporting.figures import ACCENT, BLUE, GREY, SHADES, STYLE, Array, blank

_COLUMNS = 4
_MIN_NEAR = 2.0  # effective number of trials that a shaded place needs
_MAX_SHOWN = 12  # parameters
_FINE_DECADES, _COARSE_DECADES = 0.4, 1.3  # below, round numbers; between, 1, 2 and 5; above, powers of ten
_MAX_LABEL = 20  # characters that fit between two axes
_INACTIVE = -0.14  # below the axis, whose values lie in [0, 1]
_BEHIND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5}


def prompt_angles(cosines: Array, names: Sequence[str]) -> Figure:
    """Cosine between the text features of every two regions [region, region]: all that the logits know of the texts."""
    figure = blank(4.8, 4.2)
    axes = figure.add_subplot()
    image = axes.imshow(cosines, vmin=-1, vmax=1, cmap="RdBu_r")
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    figure.colorbar(image, label="cosine", shrink=0.8)
    return figure


def search_course(numbers: Sequence[int], objectives: Sequence[float]) -> Figure:
    """The objective of every finished trial in the order of their numbers, and the best so far."""
    with mpl.rc_context(STYLE):
        figure = blank(3.4, 2.4)
        axes = figure.subplots()
        axes.plot(numbers, objectives, "o", color=BLUE, markersize=3, label="trial")
        axes.step(numbers, np.maximum.accumulate(objectives), where="post", color=ACCENT, label="best so far")
        axes.set(xlabel="trial", ylabel="validation P")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower right")
    return figure


def pareto(
    points: Mapping[int, tuple[float, float]], front: Sequence[int], *, labels: tuple[str, str], log: bool = False
) -> Figure:
    """Trials by what they cost and what they reach, those of the front joined and numbered.

    Args:
        points: cost and score of each trial, by its number.
        front: numbers of the trials that no other beats.
        labels: of cost and score.
        log: whether the cost spans decades.
    """
    with mpl.rc_context(STYLE):
        figure = blank(3.4, 2.4)
        axes = figure.subplots()
        axes.plot(*np.transpose(list(points.values())), "o", color=GREY, markersize=3, label="trial")
        best = np.array(sorted(points[number] for number in front))
        axes.plot(*best.T, "o-", color=ACCENT, markersize=4, label="Pareto front")
        for number in front:
            axes.annotate(str(number), points[number], xytext=(3, -8), textcoords="offset points", fontsize=6)
        if log:
            _set_log(axes, [cost for cost, _ in points.values()])
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.legend(loc="lower right")
    return figure


def importances(parameters: Sequence[ParameterImportance]) -> Figure:
    """A bar for each parameter, the most important on top; the mark is what shuffled scores stay below."""
    shown = parameters[:_MAX_SHOWN]
    total = sum(one.value for one in parameters) or 1.0
    with mpl.rc_context(STYLE):
        figure = blank(4.2, 0.22 * len(shown) + 0.7)
        axes = figure.subplots()
        places = range(len(shown))
        colours = [BLUE if one.telling else GREY for one in shown]
        axes.barh(places, [one.value / total for one in shown], color=colours, height=0.6)
        axes.plot([one.chance / total for one in shown], places, "|", color=ACCENT, markersize=9, label="chance")
        axes.set(yticks=list(places), yticklabels=[one.name for one in shown], xlabel="share of the importance")
        axes.invert_yaxis()
        axes.legend(loc="lower right")
    return figure


def slices(parameters: Sequence[Effect]) -> Figure:
    """P against every parameter, one panel each; all panels have one scale of P."""
    shown = parameters[:_MAX_SHOWN]
    num_rows = -(-len(shown) // _COLUMNS)
    with mpl.rc_context(STYLE):
        figure = blank(7.2, 1.7 * num_rows)
        panels = figure.subplots(num_rows, _COLUMNS, squeeze=False, sharey=True)
        for axes, one in zip(panels.flat, shown, strict=False):
            _draw_slice(axes, one)
        for axes in panels.flat[len(shown) :]:
            axes.set_visible(False)
        for row in panels:
            row[0].set_ylabel("validation P")
    return figure


def parallel(points: Parallel) -> Figure:
    """A line for each trial over an axis for each parameter, the best ones dark and on top; below: not active."""
    with mpl.rc_context(STYLE):
        figure = blank(max(3.4, 1.05 * (len(points.axes) + 1)), 3.0)
        axes = figure.subplots()
        scores = np.array(points.scores)
        norm = mpl.colors.Normalize(scores.min(), scores.max())
        columns = [[_INACTIVE if place is None else place for place in axis.places] for axis in points.axes]
        columns.append(list(np.atleast_1d(norm(scores))))
        for number in np.argsort(scores):
            axes.plot([column[number] for column in columns], color=SHADES(norm(scores[number])), alpha=0.7, lw=0.9)
        ends = (*points.axes, Axis("P", (), ((0.0, f"{scores.min():.3f}"), (1.0, f"{scores.max():.3f}"))))
        for number, axis in enumerate(ends):
            axes.axvline(number, color=GREY, linewidth=0.6)
            inactive = [(_INACTIVE, "–")] if None in axis.places else []
            for place, label in (*axis.ticks, *inactive):
                shown = label if len(label) <= _MAX_LABEL else f"{label[: _MAX_LABEL - 1]}…"
                axes.text(number - 0.04, place, shown, ha="right", va="center", fontsize=6, bbox=_BEHIND)
        names = [axis.name.replace(".", ".\n", 1) for axis in ends]
        axes.set(xticks=range(len(names)), xticklabels=names, yticks=[], xlim=(-0.8, len(names) - 0.9))
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(length=0)
    return figure


def sigma_by_grid(points: SigmaByGrid) -> Figure:
    """P over sigma, a band for each grid: trials as dots, between them a local mean, blank where few are near."""
    names = sorted(set(points.grid))
    logs, p = np.log(np.array(points.sigma)), np.array(points.scores)
    rows = np.array([names.index(name) for name in points.grid])
    ticks = np.linspace(logs.min(), logs.max(), 120)
    norm = mpl.colors.Normalize(p.min(), p.max())
    with mpl.rc_context(STYLE):
        figure = blank(5.0, 0.42 * len(names) + 1.0)
        axes = figure.subplots()
        means = np.array([_local_mean(ticks, logs[rows == row], p[rows == row]) for row in range(len(names))])
        edges = np.arange(len(names) + 1) - 0.5
        span = np.exp(np.linspace(logs.min(), logs.max(), len(ticks) + 1))
        axes.pcolormesh(span, edges, means, cmap=SHADES, norm=norm, alpha=0.75, rasterized=True)
        dots = axes.scatter(points.sigma, rows, c=p, cmap=SHADES, norm=norm, s=14, edgecolors="white", linewidths=0.4)
        _set_log(axes, points.sigma)
        axes.set(yticks=range(len(names)), yticklabels=names, xlabel="kernel sigma over spacing")
        axes.set_ylim(len(names) - 0.5, -0.5)
        figure.colorbar(dots, ax=axes, label="validation P")
    return figure


def _set_log(axes: Any, values: Sequence[float] | Array) -> None:
    """A log scale along x with few labels: matplotlib's own overlap where the values span about one decade."""
    decades = float(np.log10(max(values) / min(values)))
    axes.set_xscale("log")
    if decades > _FINE_DECADES:
        locator: Locator = LogLocator(subs=(1.0, 2.0, 5.0) if decades < _COARSE_DECADES else (1.0,), numticks=5)
    else:
        locator = MaxNLocator(3)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _local_mean(ticks: Array, logs: Array, scores: Array) -> Array:
    """A Gaussian mean along sigma within one grid; NaN where the weights are fewer than two points'."""
    if not len(logs):
        return np.full(len(ticks), np.nan)
    width = (ticks[-1] - ticks[0]) / 10 or 1.0
    weights = np.exp(-0.5 * ((ticks[:, None] - logs) / width) ** 2)
    total = weights.sum(1)
    return np.where(total >= _MIN_NEAR, (weights @ scores) / np.maximum(total, 1e-12), np.nan)


def _draw_slice(axes: Any, one: Effect) -> None:
    """Choices in the order of their names; where they cannot be told apart otherwise, dots lie side by side."""
    if isinstance(one.values[0], str):
        names = sorted(set(one.values))
        places = np.array([names.index(value) for value in one.values], dtype=float)
        within = np.zeros(len(names))
        for number, place in enumerate(one.values):
            spot = names.index(place)
            places[number] += ((within[spot] * 0.382) % 1 - 0.5) * 0.5  # the same data give the same picture
            within[spot] += 1
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
    else:
        places = np.array(one.values, dtype=float)
        if one.log:
            _set_log(axes, places)
    axes.scatter(places, one.scores, s=8, color=BLUE, alpha=0.7, linewidths=0)
    axes.set_title(one.name)
