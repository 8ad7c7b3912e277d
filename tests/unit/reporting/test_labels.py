"""Labels of axes do not overlap, and the figures of a search show every searched parameter."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from affectgrid.analysis.importance import ParameterImportance
from affectgrid.analysis.slices import Effect, SigmaByGrid, effects, parallel, sigma_by_grid
from affectgrid.reporting.study import figures
from affectgrid.search.space.objective import Goal
from affectgrid.search.space.reading import load_space
from affectgrid.search.space.schema import SearchSpace
from affectgrid.search.study.records import TrialRecord

NUM_TRIALS = 40


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of labels of one axis whose boxes on the page intersect; upright ones alone."""
    figure.draw_without_rendering()
    found = []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = [one for one in axis.get_ticklabels(which="both") if one.get_text() and one.get_visible()]
            labels = [one for one in labels if one.get_rotation() in {0, 90}]
            boxes = [(one.get_text(), one.get_window_extent()) for one in labels]
            found += [(a, b) for (a, one), (b, other) in itertools.combinations(boxes, 2) if one.overlaps(other)]
    return found


@pytest.fixture(scope="module")
def space(repository: Path) -> SearchSpace:
    return load_space(repository / "search_spaces" / "smoke.yaml")


@pytest.fixture(scope="module")
def trials(space: SearchSpace) -> list[TrialRecord]:
    """Drawn from the space at random; every seventh has no prompt loss, which makes three parameters inactive."""
    draw, found = np.random.default_rng(0), []
    for number in range(NUM_TRIALS):
        values: dict[str, object] = {}
        for name, dimension in space.active_order():
            if dimension.condition is not None and not dimension.condition.holds({**space.constants, **values}):
                continue
            if dimension.choice is not None:
                values[name] = (
                    "none" if name == "prompt.mode" and number % 7 == 0 else str(draw.choice(dimension.choice))
                )
            else:
                low, high = dimension.bounds or (0, 0)
                drawn = np.exp(draw.uniform(*np.log([low, high]))) if dimension.log else draw.uniform(low, high)
                values[name] = int(drawn + 0.5) if dimension.int_ else float(drawn)
        p = float(draw.normal(0.6, 0.05))
        costs = {"parameters": float(draw.integers(900, 90_000)), "latency_ms": float(draw.uniform(1, 4))}
        found.append(
            TrialRecord(number=number, label="", state="complete", params=values, objective=p, costs=costs)  # type: ignore[arg-type]
        )
    return found


@pytest.mark.parametrize("bounds", [(0.15, 1.5), (0.2, 0.9), (0.3, 0.5), (1e-4, 1e-2), (1e-12, 1.0), (900, 90_000)])
def test_labels_of_a_log_axis_do_not_overlap(bounds: tuple[float, float]):
    values = tuple(np.geomspace(*bounds, 9).tolist())
    scores = tuple(np.linspace(0.1, 0.7, 9).tolist())
    drawn = [
        figures.slices([Effect("a", values, scores, log=True)] * 4),
        figures.sigma_by_grid(SigmaByGrid(values, ("3x3-plain",) * 9, scores)),
        figures.pareto(dict(enumerate(zip(values, scores, strict=True))), [0, 8], labels=("a", "b"), log=True),
    ]
    for figure in drawn:
        assert overlapping(figure) == []
        labels = [one.get_text() for one in figure.axes[0].get_xticklabels()]
        assert len([text for text in labels if text]) >= 2


def test_labels_of_a_search_do_not_overlap(space: SearchSpace, trials: list[TrialRecord]):
    points = sigma_by_grid(space, trials)
    assert points is not None
    for figure in (figures.slices(effects(space, trials)), figures.sigma_by_grid(points)):
        assert overlapping(figure) == []


def test_parallel_coordinates_show_every_trial_and_every_parameter(space: SearchSpace, trials: list[TrialRecord]):
    points = parallel(space, trials)
    assert [axis.name for axis in points.axes] == list(space.space)
    by_name = {axis.name: axis for axis in points.axes}
    assert by_name["prompt.sigma_ratio"].places[0] is None  # trial 0 has no prompt loss
    assert by_name["prompt.mode"].ticks[-1] == (1.0, "none")
    assert [label for _, label in by_name["model.fusion_depth"].ticks] == ["0", "1", "2"]
    assert [label for _, label in by_name["optim.lr"].ticks] == ["0.001", "0.0032", "0.01"]
    for trial, place in zip(trials, by_name["optim.lr"].places, strict=True):
        assert place == pytest.approx(np.log10(float(str(trial.params["optim.lr"])) / 1e-3))
    (axes,) = figures.parallel(points).axes
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) == len(space.space) + 1]
    assert len(lines) == NUM_TRIALS
    names = [label.get_text().replace("\n", "") for label in axes.get_xticklabels()]
    assert names == [*space.space, "P"]


def test_interactive_figures_are_one_page_that_loads_nothing(
    space: SearchSpace, trials: list[TrialRecord], tmp_path: Path
):
    pytest.importorskip("plotly")
    from affectgrid.reporting.study.interactive import draw, write_figures

    found = [ParameterImportance(name=name, share=0.1, value=0.1, chance=0.05, num_trials=9) for name in space.space]
    goals = (Goal(maximize="val/p_best"), Goal(minimize="parameters"))
    both = space.model_copy(update={"objective": goals})
    drawn = draw(both, trials, found)
    assert list(drawn) == ["Parallel coordinates", "Importance", "Sigma by grid", "Slices", "Pareto front"]
    lines = [trace for trace in drawn["Parallel coordinates"].data if trace.mode == "lines"]
    assert len(lines) == NUM_TRIALS
    assert {label for label, _ in lines[0].customdata} == {"P", *space.space}
    assert {bar for trace in drawn["Importance"].data for bar in trace.y} == set(space.space)
    assert {axis.title.text for axis in drawn["Slices"].select_xaxes()} == set(space.space)
    assert sum(len(trace.x) for trace in drawn["Pareto front"].data) == NUM_TRIALS
    page = write_figures(tmp_path / "figures.html", "t", both, trials, found)
    assert page is not None
    text = page.read_text()
    assert not re.search(r"<script[^>]* src=|<link[^>]* href=", text)
    assert text.count("Plotly.newPlot(") == len(drawn)
    assert 3e6 < len(text) < 7e6
    assert write_figures(tmp_path / "none.html", "t", both, trials[:1], []) is None
