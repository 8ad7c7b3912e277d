"""Figures: what is drawn is what was given, and the same data give the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from affectgrid.regions import RegionGrid
from affectgrid.reporting import figures
from affectgrid.reporting.study import figures as study_figures

NUM_FRAMES = 120


def some_points(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.uniform(-1, 1, (NUM_FRAMES, 2))
    return 0.8 * true, true, rng.random(NUM_FRAMES) > 0.25


def some_history(num_epochs: int = 4) -> list[dict[str, float]]:
    return [
        {"epoch": e, "train/loss": 1 / e, "val/p": 0.1 * e, "val/ccc_valence": 0.1 * e, "val/ccc_arousal": 0.1 * e}
        for e in range(1, num_epochs + 1)
    ]


def test_the_plane_shows_labelled_frames_alone_and_every_centre():
    predicted, true, labelled = some_points()
    grid = RegionGrid.square(3)
    figure = figures.plane(predicted, true, labelled, grid.centres, scores={"valence": 0.5})
    axes = {one.get_title().split(",")[0]: one for one in figure.axes}
    shown = axes["true"].collections[-1].get_offsets()
    np.testing.assert_allclose(shown, true[labelled])
    np.testing.assert_allclose(axes["predicted"].collections[-1].get_offsets(), predicted[labelled])
    np.testing.assert_allclose(np.transpose(axes["true"].lines[0].get_data()), grid.centres)
    assert axes["valence"].get_title() == "valence, CCC 0.500"
    assert axes["arousal"].get_title() == "arousal"


def test_borders_lie_half_way_between_the_centres():
    predicted, true, labelled = some_points()
    figure = figures.plane(predicted, true, labelled, ((-0.5, 0.0), (0.5, 0.0)))
    border = figure.axes[0].collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(border[:, 0], 0, atol=0.01)


def test_more_points_than_a_picture_can_show_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(figures, "_MAX_POINTS", 10)
    predicted, true, _ = some_points()
    figure = figures.plane(predicted, true, np.ones(NUM_FRAMES, bool), ((0.0, 0.0), (0.5, 0.5)))
    assert len(figure.axes[0].collections[-1].get_offsets()) == 10


def test_traces_have_gaps_where_nothing_is_labelled():
    predicted, true, labelled = some_points()
    time_s = np.arange(NUM_FRAMES) / 25
    figure = figures.traces([figures.Trace("t", time_s, true, predicted, labelled)] * 2)
    annotated, shown, _ = figure.axes[1].lines  # arousal of the first track
    np.testing.assert_array_equal(np.isnan(annotated.get_ydata()), ~labelled)
    np.testing.assert_allclose(shown.get_ydata(), predicted[:, 1])
    assert len(figure.axes) == 4


def test_learning_curves_mark_the_epoch_that_was_kept():
    history = some_history()
    history[2]["val/p"] = 0.9
    figure = figures.learning_curves({"seed 0": history, "seed 1": some_history(2)})
    marks = [line.get_data() for line in figure.axes[1].lines if line.get_marker() == "o"]
    assert [(float(x[0]), float(y[0])) for x, y in marks] == [(3, 0.9), (2, 0.2)]


def test_the_course_of_a_search_never_falls():
    figure = study_figures.search_course([0, 1, 3], [0.2, 0.5, 0.4])
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), [0.2, 0.5, 0.5])


def test_a_front_is_joined_from_the_cheapest_to_the_dearest():
    points = {0: (300.0, 0.7), 1: (10.0, 0.4), 2: (200.0, 0.5), 3: (100.0, 0.6)}
    axes = study_figures.pareto(points, [0, 3, 1], labels=("parameters", "P"), log=True).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [300, 10, 200, 100])
    np.testing.assert_allclose(np.transpose(axes.lines[1].get_data()), [(10, 0.4), (100, 0.6), (300, 0.7)])
    assert [text.get_text() for text in axes.texts] == ["0", "3", "1"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale()) == ("parameters", "P", "log")


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_files_are_written_in_every_format(tmp_path: Path, suffix: str):
    path = figures.save(study_figures.search_course([0, 1], [0.2, 0.5]), tmp_path / "new" / f"course.{suffix}")
    assert path.stat().st_size > 1000


def test_the_same_data_give_the_same_bytes(tmp_path: Path):
    paths = [figures.save(study_figures.search_course([0, 1], [0.2, 0.5]), tmp_path / f"{n}.png") for n in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert np.asarray(Image.open(paths[0]).convert("L")).std() > 5  # not an empty page
