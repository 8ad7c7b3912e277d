"""Figures of results: small enough for two columns of a paper, readable in grey and by the colour-blind.

Each function returns a matplotlib figure; `save` writes it. Nothing here opens a window.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.colors
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from affectgrid.reporting.html import Picture

if TYPE_CHECKING:  # it loads torch, which few figures need
    from affectgrid.training.inference.explain import FusionView

Array = np.ndarray[Any, Any]
# Okabe and Ito's palette.
_TRUE, BLUE, GREY, ACCENT = "#000000", "#0072B2", "#999999", "#D55E00"
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.0,
    "pdf.fonttype": 42,  # text that stays text
    "svg.fonttype": "none",
}
SHADES = mpl.colors.LinearSegmentedColormap.from_list("shades", ["#c9dcef", "#08306b"])
_PANELS = 4  # in a row
_MAX_POINTS = 20_000  # more only blacken the plane


@dataclasses.dataclass(frozen=True)
class Trace:
    """One track over time.

    Args:
        title: the track's name.
        time_s: of each frame.
        true: annotated (valence, arousal).
        predicted: the model's.
        labelled: where `true` counts.
    """

    title: str
    time_s: Float[Array, " frame"]
    true: Float[Array, "frame 2"]
    predicted: Float[Array, "frame 2"]
    labelled: Bool[Array, " frame"]


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG, SVG or PDF, by the ending of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200, metadata={"Software": None} if path.suffix == ".png" else None)
    return path


def picture(figure: Figure, path: Path, words: str) -> Picture:
    """Save a figure for a page, with text that serves as its alternative and its caption."""
    return Picture(save(figure, path), words, words)


def plane(
    predicted: Float[Array, "frame 2"],
    true: Float[Array, "frame 2"],
    labelled: Bool[Array, " frame"],
    centres: Sequence[tuple[float, float]],
    *,
    scores: Mapping[str, float] | None = None,
) -> Figure:
    """Predicted against true on the valence-arousal plane, each with the regions drawn in; and per axis."""
    picked = _sample(np.flatnonzero(labelled))
    p, t = predicted[picked], true[picked]
    with mpl.rc_context(STYLE):
        figure = blank(7.2, 2.1)
        axes: dict[str, Any] = figure.subplot_mosaic([["true", "predicted", "valence", "arousal"]])
        for name, points, colour in (("true", t, _TRUE), ("predicted", p, BLUE)):
            _draw_plane(axes[name], points, centres, colour, title=name)
        for axis, name in enumerate(("valence", "arousal")):
            score = None if scores is None else scores.get(name)
            _draw_agreement(axes[name], t[:, axis], p[:, axis], name if score is None else f"{name}, CCC {score:.3f}")
    return figure


def traces(tracks: Sequence[Trace]) -> Figure:
    """Annotated and predicted valence and arousal over time, a row for each track; gaps where nothing is labelled."""
    with mpl.rc_context(STYLE):
        figure = blank(7.0, 1.35 * len(tracks) + 0.5)
        axes = figure.subplots(len(tracks), 2, squeeze=False, sharey=True, sharex="row")
        for row, track in zip(axes, tracks, strict=True):
            for axis, name in enumerate(("valence", "arousal")):
                shown = np.where(track.labelled, track.true[:, axis], np.nan)
                row[axis].plot(track.time_s, shown, color=_TRUE, label="annotated")
                row[axis].plot(track.time_s, track.predicted[:, axis], color=BLUE, label="predicted")
                row[axis].axhline(0, color=GREY, linewidth=0.4)
                row[axis].set(ylim=(-1, 1), yticks=(-1, 0, 1), title=f"{track.title}: {name}")
        for below in axes[-1]:
            below.set_xlabel("time (s)")
        figure.legend(*axes[0][0].get_legend_handles_labels(), ncols=2, loc="outside upper center")
    return figure


def prediction(
    track: str,
    time_s: Float[Array, " frame"],
    va: Float[Array, "frame 2"],
    found: Bool[Array, " frame"] | None,
) -> Figure:
    """Predicted valence and arousal of one track over time, with the frames without a face (`found`) shaded."""
    with mpl.rc_context(STYLE):
        figure = blank(7.0, 2.0)
        axes: Any = figure.subplots()
        for axis, name in enumerate(("valence", "arousal")):
            axes.plot(time_s, va[:, axis], color=_LINES[axis], label=name)
        axes.axhline(0, color=GREY, linewidth=0.4)
        if found is not None and not found.all():
            axes.fill_between(time_s, -1, 1, where=~found, step="mid", color=GREY, alpha=0.3, lw=0, label="no face")
        axes.set(ylim=(-1, 1), yticks=(-1, 0, 1), xlabel="time (s)", title=track)
        figure.legend(ncols=3, loc="outside upper right")
    return figure


def fusion(view: FusionView) -> Figure:
    """Gates over time; and the last block's attention, a map for each pair of streams, darker where it is more."""
    maps = view.attention[-1] if view.attention else {}
    with mpl.rc_context(STYLE):
        number = int(len(view.shares) > 0) + len(maps)
        rows = -(-number // _PANELS)
        figure = blank(7.0, 2.2 * rows)
        axes = list(figure.subplots(rows, -(-number // rows), squeeze=False).flat)
        for unused in axes[number:]:
            unused.set_axis_off()
        if view.shares:
            _draw_gates(axes.pop(0), view)
        first, last = float(view.time_s[0]), float(view.time_s[-1])
        extent = (first, last, last, first)
        for shown, ((asking, asked), weights) in zip(axes, maps.items(), strict=False):
            shown.imshow(weights, extent=extent, cmap=SHADES, aspect="auto", interpolation="nearest")
            asking, asked = _shown(asking), _shown(asked)
            shown.set(xlabel=f"{asked} at (s)", ylabel=f"{asking} at (s)", title=f"{asking} attends to {asked}")
    return figure


def learning_curves(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Loss, and CCC on the validation split, by epoch; a line for each run. The epoch that was kept is marked."""
    with mpl.rc_context(STYLE):
        figure = blank(7.0, 2.4)
        left, right = figure.subplots(1, 2)
        for number, (label, history) in enumerate(histories.items()):
            colour = _LINES[number % len(_LINES)]
            epochs = [row["epoch"] for row in history]
            p = [row["val/p"] for row in history]
            left.plot(epochs, [row["train/loss"] for row in history], color=colour, label=label)
            right.plot(epochs, p, color=colour)
            for metric, dashes in (("val/ccc_valence", (4, 2)), ("val/ccc_arousal", (1, 1))):
                right.plot(epochs, [row[metric] for row in history], color=colour, dashes=dashes, linewidth=0.7)
            kept = int(np.argmax(p))
            right.plot(epochs[kept], p[kept], "o", color=colour, markersize=4)
        for axes in (left, right):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        left.set(xlabel="epoch", ylabel="training loss")
        right.set(xlabel="epoch", ylabel="validation CCC", title="P solid, valence dashed, arousal dotted")
        if len(histories) > 1:
            left.legend()
    return figure


def blank(width_in: float, height_in: float) -> Figure:
    """A new figure of this size."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)  # not pyplot: it would keep every figure alive
    return figure


def _draw_gates(axes: Any, view: FusionView) -> None:
    """Of two streams the first one's share, a line for each block; of more the share of each in the last block."""
    pivot, *others = (_shown(name) for name in view.streams)
    if len(others) == 1:
        lines = {f"block {block}": shares[0] for block, shares in enumerate(view.shares, 1)}
        axes.set_ylabel(f"{others[0]} ← → {pivot}")
    else:
        lines = dict(zip((pivot, *others), view.shares[-1], strict=True))
        axes.set_ylabel("share")
    for number, (label, line) in enumerate(lines.items()):
        axes.plot(view.time_s, line, color=_LINES[number % len(_LINES)], label=label)
    axes.axhline(1 / len(view.streams), color=GREY, linewidth=0.4)
    axes.set(ylim=(0, 1), yticks=(0, 0.5, 1), xlabel="time (s)", title=f"{view.track}: gate")
    if len(lines) > 1:
        axes.legend()


def _shown(stream: str) -> str:
    return {"visual": "picture", "audio": "sound"}.get(stream, stream)


def _draw_plane(axes: Any, points: Array, centres: Sequence[tuple[float, float]], colour: str, *, title: str) -> None:
    _draw_regions(axes, centres)
    size, alpha = (1.5, 0.35) if len(points) < 5000 else (0.8, 0.12)
    axes.scatter(points[:, 0], points[:, 1], s=size, alpha=alpha, color=colour, linewidths=0, rasterized=True)
    axes.plot(*np.transpose(centres), "+", color=ACCENT, markersize=7, markeredgewidth=1.2)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal", title=title, xlabel="valence", ylabel="arousal")
    axes.set(xticks=(-1, 0, 1), yticks=(-1, 0, 1))


def _draw_regions(axes: Any, centres: Sequence[tuple[float, float]]) -> None:
    """The borders between regions: where the nearest centre changes. True for any set of centres."""
    ticks = np.linspace(-1, 1, 301)
    v, a = np.meshgrid(ticks, ticks)
    away = (v[..., None] - np.array(centres)[:, 0]) ** 2 + (a[..., None] - np.array(centres)[:, 1]) ** 2
    nearest = away.argmin(-1)
    for region in range(len(centres)):
        axes.contour(v, a, nearest == region, levels=[0.5], colors=GREY, linewidths=0.5)


def _draw_agreement(axes: Any, true: Array, predicted: Array, title: str) -> None:
    axes.hist2d(true, predicted, bins=40, range=[[-1, 1], [-1, 1]], cmap=SHADES, cmin=1, norm="log")
    axes.plot([-1, 1], [-1, 1], color=ACCENT, linewidth=0.7)
    axes.set(aspect="equal", title=title, xlabel="true", ylabel="predicted", xticks=(-1, 0, 1), yticks=(-1, 0, 1))


def _sample(rows: Array) -> Array:
    """At most `_MAX_POINTS` rows, evenly over all of them, so that the same data always give the same picture."""
    if len(rows) <= _MAX_POINTS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, _MAX_POINTS).astype(np.int64)]
