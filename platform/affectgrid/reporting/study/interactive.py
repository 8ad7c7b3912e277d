"""A search's figures for the mouse: one page with plotly.js inside (5 MB), beside the report, which stays light."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna

from affectgrid.analysis.importance import ParameterImportance
from affectgrid.analysis.slices import SIGMA
from affectgrid.reporting import html
from affectgrid.search.space.objective import HEADINGS
from affectgrid.search.space.schema import PROMPT_FILE, SearchSpace
from affectgrid.search.study.journal import finished_trial
from affectgrid.search.study.records import TrialRecord

INTERACTIVE = "figures.html"  # the name of the page in a study's folder
WORDS = f"{INTERACTIVE}, beside this page, has figures of the search to hover over and to zoom into."
_log = logging.getLogger(__name__)
_MIN_TRIALS = 2
_MOST_GOALS = 3  # that a front can be drawn over
_WIDTH_PX, _AXIS_PX, _SLICE_PX = 760, 120, 210  # of a figure, of one parameter in it: a small screen scrolls
_WORDS = {
    "Parallel coordinates": "A line for each complete trial, darker where P is higher; None: not active.",
    "Importance": "Share of each parameter (PED-ANOVA); grey: not above what shuffled scores show.",
    "Sigma by grid": "P over kernel sigma and grid, between the trials that have both.",
    "Slices": "P against each parameter, over the trials in which it was active; darker: later.",
    "Pareto front": "Every complete trial; red: no other is at least as good in every objective and better in one.",
}


def write_figures(
    path: Path, title: str, space: SearchSpace, trials: Sequence[TrialRecord], found: Sequence[ParameterImportance]
) -> Path | None:
    """The page, or None where fewer than two trials are complete or nothing is searched, or plotly is missing.

    Args:
        path: of the page.
        title: its heading.
        space: that was searched.
        trials: all of them; the complete ones are drawn.
        found: the importance of its parameters; empty: no such figure.
    """
    complete = [trial for trial in trials if trial.state == "complete" and trial.objective is not None]
    if len(complete) < _MIN_TRIALS or not space.space:
        return None
    if importlib.util.find_spec("plotly") is None:
        _log.warning("no interactive figures: plotly is not installed here; install the project again")
        return None
    drawn = draw(space, complete, found)
    sections = [
        html.Section(name, [_WORDS[name]], embedded=[_embed(figure, script=number == 0)])
        for number, (name, figure) in enumerate(drawn.items())
    ]
    return html.write(path, title, sections)


def draw(space: SearchSpace, complete: Sequence[TrialRecord], found: Sequence[ParameterImportance]) -> dict[str, Any]:
    """Plotly's figures by their heading. Of a search with several objectives all but the front are about P."""
    import plotly.graph_objects as go  # half a second, which a search's workers need not wait

    view = optuna.visualization
    study = _study(space.model_copy(update={"objective": SearchSpace.model_fields["objective"].default}), complete)
    drawn = {"Parallel coordinates": view.plot_parallel_coordinate(study, target_name="P")}
    drawn["Parallel coordinates"].update_layout(width=max(_WIDTH_PX, _AXIS_PX * (2 + len(space.space))), height=560)
    if found:
        colours = ["#0072B2" if one.telling else "#999999" for one in found]
        bars = go.Bar(y=[one.name for one in found], x=[one.share for one in found], orientation="h")
        drawn["Importance"] = go.Figure(bars.update(marker_color=colours))
        drawn["Importance"].update_yaxes(autorange="reversed").update_xaxes(tickformat=".0%")
        drawn["Importance"].update_layout(height=120 + 26 * len(found))
    if all(any(name in trial.params for trial in complete) for name in (SIGMA, PROMPT_FILE)):
        drawn["Sigma by grid"] = view.plot_contour(study, params=[SIGMA, PROMPT_FILE], target_name="P")
    drawn["Slices"] = view.plot_slice(study, target_name="P")
    drawn["Slices"].update_layout(width=max(_WIDTH_PX, 120 + _SLICE_PX * len(space.space)), height=460)
    if 1 < len(space.objective) <= _MOST_GOALS:
        names = [HEADINGS[goal.metric] for goal in space.objective]
        drawn["Pareto front"] = view.plot_pareto_front(_study(space, complete), target_names=names)
    for figure in drawn.values():
        figure.update_layout(title=None, margin={"t": 30, "l": 90}, width=figure.layout.width or _WIDTH_PX)
    return drawn


def _study(space: SearchSpace, complete: Sequence[TrialRecord]) -> optuna.Study:
    """As Optuna has it, in memory: the journal also holds trials that have not ended, and those of older studies."""
    study = optuna.create_study(directions=[goal.direction for goal in space.objective])
    study.add_trials([finished_trial(space, trial, trial.params) for trial in complete])
    return study


def _embed(figure: Any, *, script: bool) -> str:
    import plotly.io

    return str(plotly.io.to_html(figure, full_html=False, include_plotlyjs=script))
