"""A model's scores on a split: tables on the terminal, a page with figures, and a JSON file."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from affectgrid.data.splits.resident import Split
from affectgrid.reporting import figures, html
from affectgrid.reporting.tables import Table
from affectgrid.training.inference.package import ModelPackage
from affectgrid.training.inference.predict import Predictions, Scores


def caveat(encoders: Mapping[str, str], data: str = "") -> str:
    """What must stand beside every score that was made with untrained encoders or drawn faces."""
    used = (encoders.get("visual"), encoders.get("audio"))
    words = ["untrained `tiny` encoders"] if "tiny" in used else []
    words += ["synthetic features"] if "synthetic" in used else []
    words += ["the rendered corpus"] if data == "rendered" else []
    return f"Made with {' on '.join(words)}: it shows that the platform works, not how people feel." if words else ""


def score_table(scores: Scores, note: str = "") -> Table:
    """CCC of valence, of arousal and P, with 95 % bootstrap intervals over tracks."""
    intervals = {"CCC-V": scores.intervals.valence, "CCC-A": scores.intervals.arousal, "P": scores.intervals.p}
    rows = [
        {"score": name, "value": f"{i.estimate:.3f}", "low": f"{i.low:.3f}", "high": f"{i.high:.3f}"}
        for name, i in intervals.items()
    ]
    return Table.of("Scores with 95 % bootstrap intervals over tracks", rows, note=note)


def region_table(scores: Scores) -> Table:
    """Support and error by the region that the annotation lies in."""
    rows = [
        {
            "region": region.name,
            "frames": str(region.support),
            "share": f"{region.share:.1%}",
            "MAE": _error(region.mae),
            "RMSE": _error(region.rmse),
        }
        for region in scores.regions
    ]
    return Table.of("Error by the region of the annotation", rows)


def print_scores(scores: Scores, note: str, folder: Path, *, console: Console | None = None) -> None:
    """Both tables, and where the files are."""
    console = console or Console()
    console.print(score_table(scores, note).rich())
    console.print(region_table(scores).rich())
    console.print(f"report   {folder / 'report.html'}", highlight=False, markup=False, soft_wrap=True)


def write_scores(
    folder: Path, scores: Scores, predictions: Predictions, split: Split, package: ModelPackage, note: str
) -> None:
    """``scores.json`` and ``report.html`` with the plane and the best, the median and the worst track."""
    drawn = {
        "plane": figures.plane(
            predictions.va.numpy(),
            split.va,
            split.labelled,
            package.grid.centres,
            scores={"valence": scores.ccc_valence, "arousal": scores.ccc_arousal},
        ),
        "traces": figures.traces(telling_tracks(predictions, split, scores)),
    }
    words = {
        "plane": "Predicted and annotated valence and arousal on the plane with its regions",
        "traces": "Annotated and predicted valence and arousal over time: the best, the median and the worst track",
    }
    pictures = [
        html.Picture(figures.save(figure, folder / f"{name}.png"), words[name], words[name])
        for name, figure in drawn.items()
    ]
    tables = [score_table(scores), region_table(scores)]
    section = html.Section(f"Split {split.name}", (), tables, pictures)
    html.write(folder / "report.html", f"Scores on {split.name}", [section], caveat=note)
    (folder / "scores.json").write_text(json.dumps(dataclasses.asdict(scores), indent=2, default=str) + "\n")


def telling_tracks(predictions: Predictions, split: Split, scores: Scores) -> list[figures.Trace]:
    """The tracks with the best, the median and the worst P of their own: neither picked nor flattering."""
    ranked = sorted((p, track) for track, p in scores.track_p.items() if not math.isnan(p))
    places = sorted({0, len(ranked) // 2, len(ranked) - 1}, reverse=True) if ranked else []
    return [_trace(predictions, split, *ranked[place]) for place in places]


def _trace(predictions: Predictions, split: Split, p: float, track: str) -> figures.Trace:
    rows = split.track(split.track_ids.index(track))
    return figures.Trace(
        f"{track} (P {p:.2f})",
        split.time_s[rows],
        split.va[rows],
        predictions.va[rows].numpy(),
        split.labelled[rows],
    )


def _error(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
