"""Pictures of a data set: where its labels lie, how they run, how long and how fast its videos are, and its faces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image, UnidentifiedImageError

from affectgrid.data.survey import TrackFacts
from affectgrid.media.faces.crops import list_crops
from affectgrid.reporting import figures, html
from affectgrid.storage import staged

_TRACES, _FACES = 6, 24  # shown
_COLUMNS = 8  # faces in a row
_BINS = 40
_SIDE = 96  # pixels of a shown face


def draw_corpus(facts: Sequence[TrackFacts], folder: Path) -> list[html.Section]:
    """Sections with pictures, which are written into `folder`; those for which there is nothing are left out."""
    labelled = [one for one in facts if len(one.va)]
    sections = []
    if labelled:
        shown = [_density(labelled, folder / "density.png"), _traces(labelled, folder / "traces.png")]
        sections.append(html.Section("Labels", (), (), shown))
    if any(one.num_frames for one in facts):
        sections.append(html.Section("Videos", (), (), [_histograms(facts, folder / "videos.png")]))
    faces = _faces(labelled, folder / "faces.png")
    return [*sections, html.Section("Faces", (), (), [faces])] if faces else sections


def _density(facts: Sequence[TrackFacts], path: Path) -> html.Picture:
    splits = sorted({one.track.split for one in facts})
    with mpl.rc_context(figures.STYLE):
        figure = figures.blank(2.6 * len(splits), 2.5)
        row: Any = figure.subplots(1, len(splits), squeeze=False)[0]
        for axes, split in zip(row, splits, strict=True):
            va = np.concatenate([one.va for one in facts if one.track.split == split])
            counts, *_ = np.histogram2d(va[:, 0], va[:, 1], _BINS, ((-1, 1), (-1, 1)))
            shown = np.log10(np.where(counts > 0, counts, np.nan)).T
            axes.imshow(shown, origin="lower", extent=(-1, 1, -1, 1), cmap=figures.SHADES, interpolation="nearest")
            for edge in (-1 / 3, 1 / 3):
                axes.axhline(edge, color=figures.GREY, linewidth=0.5)
                axes.axvline(edge, color=figures.GREY, linewidth=0.5)
            axes.set(xlabel="valence", title=f"{split}: {len(va):,} labels", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
        row[0].set_ylabel("arousal")
    words = "Labels on the valence-arousal plane, by split, with the 3x3 grid; darker: more, on a logarithmic scale"
    return figures.picture(figure, path, words)


def _traces(facts: Sequence[TrackFacts], path: Path) -> html.Picture:
    picked = [facts[place] for place in _spread(len(facts), _TRACES)]
    with mpl.rc_context(figures.STYLE):
        figure = figures.blank(7.0, 1.0 * len(picked) + 0.5)
        rows: Any = figure.subplots(len(picked), 1, squeeze=False)[:, 0]
        for axes, one in zip(rows, picked, strict=True):
            assert one.labels is not None
            va = np.where(one.labels.valid[:, None], one.labels.va, np.nan)
            time = np.arange(len(va)) / one.rate_hz if one.rate_hz else np.arange(len(va))
            for axis, (name, colour) in enumerate((("valence", figures.BLUE), ("arousal", figures.ACCENT))):
                axes.plot(time, va[:, axis], color=colour, label=name)
            if not one.labels.valid.all():
                axes.fill_between(time, -1, 1, where=~one.labels.valid, step="mid", color=figures.GREY, alpha=0.3, lw=0)
            axes.axhline(0, color=figures.GREY, linewidth=0.4)
            axes.set(ylim=(-1, 1), yticks=(-1, 0, 1), title=one.track.id)
        rows[-1].set_xlabel("time (s)" if picked[-1].rate_hz else "frame")
        figure.legend(*rows[0].get_legend_handles_labels(), ncols=2, loc="outside upper right")
    words = f"Labels of {len(picked)} of {len(facts)} tracks over time; grey: frames without a label"
    return figures.picture(figure, path, words)


def _histograms(facts: Sequence[TrackFacts], path: Path) -> html.Picture:
    known = [one for one in facts if one.num_frames]
    panels = [
        ("frames a second", [one.rate_hz for one in known]),
        ("length (s)", [one.duration_s for one in known]),
        ("share of frames with a face crop", [one.face_share for one in known if one.face_share is not None]),
    ]
    panels = [(name, values) for name, values in panels if values]
    with mpl.rc_context(figures.STYLE):
        figure = figures.blank(2.5 * len(panels), 1.9)
        row: Any = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (name, values) in zip(row, panels, strict=True):
            span = (0, 1) if name.startswith("share") else None
            axes.hist(values, bins=20, range=span, color=figures.BLUE)
            axes.set(xlabel=name)
        row[0].set_ylabel("tracks")
    return figures.picture(figure, path, f"Rate, length and faces of {len(known)} tracks with a video that can be read")


def _faces(facts: Sequence[TrackFacts], path: Path) -> html.Picture | None:
    """Crops of tracks spread over the data set, each from the frame whose label lies furthest from neutral."""
    found = []
    with_crops = [one for one in facts if one.num_crops]
    for place in _spread(len(with_crops), _FACES):
        if (face := _face(with_crops[place])) is not None:
            found.append(face)
    if not found:
        return None
    with mpl.rc_context(figures.STYLE):
        rows = -(-len(found) // _COLUMNS)
        figure = figures.blank(7.2, 1.15 * rows)
        cells: Any = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
        for axes in cells:
            axes.axis("off")
        for axes, (picture, va) in zip(cells, found, strict=False):
            axes.imshow(picture)
            axes.set_title(f"{va[0]:+.2f} {va[1]:+.2f}", fontsize=6, pad=2)
    words = f"Faces of {len(found)} tracks with valence and arousal, each where it is furthest from neutral"
    return figures.picture(figure, path, words)


def _face(one: TrackFacts) -> tuple[Image.Image, tuple[float, float]] | None:
    labels, folder = one.labels, one.track.crops
    if labels is None or folder is None:
        return None
    with staged(folder) as here:
        crops = {index: file for index, file in list_crops(here).items() if index <= labels.num_frames}
        known = [index for index in crops if labels.valid[index - 1]]
        if not known:
            return None
        furthest = max(known, key=lambda index: float(np.abs(labels.va[index - 1]).max()))
        try:
            picture = Image.open(crops[furthest]).convert("RGB").resize((_SIDE, _SIDE))
        except (OSError, UnidentifiedImageError):  # told among the problems
            return None
    valence, arousal = labels.va[furthest - 1]
    return picture, (float(valence), float(arousal))


def _spread(count: int, wanted: int) -> list[int]:
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, wanted))}) if count else []
