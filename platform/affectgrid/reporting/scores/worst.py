"""Where a model is furthest from the annotation, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from affectgrid.analysis.evaluation import WorstFrame
from affectgrid.reporting import figures, html

_COLUMNS = 3


def draw_worst(folder: Path, frames: Sequence[WorstFrame]) -> list[html.Picture]:
    """``worst.png`` in `folder`: each frame with what was annotated and what was predicted; nothing without a frame."""
    if not frames:
        return []
    num_rows = -(-len(frames) // _COLUMNS)
    with mpl.rc_context(figures.STYLE):
        figure = figures.blank(7.0, 2.4 * num_rows)
        panels = figure.subplots(num_rows, _COLUMNS, squeeze=False)
        for axes in panels.flat:
            axes.set_axis_off()
        for axes, one in zip(panels.flat, frames, strict=False):
            axes.imshow(one.picture)
            pairs = (f"{name} {pair[0]:+.2f} {pair[1]:+.2f}" for name, pair in _pairs(one))
            axes.set_title("\n".join([f"frame {one.frame_index}, {one.time_s:.1f} s", *pairs]))
    words = f"Frames furthest from their annotation in the track of the lowest P, {frames[0].track}; valence, arousal"
    return [figures.picture(figure, folder / "worst.png", words)]


def _pairs(one: WorstFrame) -> tuple[tuple[str, tuple[float, float]], ...]:
    return ("annotated", one.true), ("predicted", one.predicted)
