"""A finished training run, and a scale test, for a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console

from affectgrid import storage
from affectgrid.analysis.scale import ScaleReport
from affectgrid.reporting.caveat import caveat, look_ahead_caveat
from affectgrid.reporting.scores import score_table, smoothing_lines
from affectgrid.reporting.tables import Table
from affectgrid.training.config import TrainConfig
from affectgrid.training.inference.folds import FoldedResult
from affectgrid.training.inference.smoothing import SmoothingCurve
from affectgrid.training.manifest import collect


def training_note(encoders: Mapping[str, str], config: TrainConfig, data: str, *, held_out: bool = True) -> str:
    """What must stand beside the scores of a run; empty where nothing must."""
    notes = (
        caveat(encoders.values(), rendered=data == "rendered"),
        look_ahead_caveat(encoders, causal=config.model.causal),
        "" if held_out else "The model has learnt from the tracks that it is scored on: the score says nothing.",
    )
    return " ".join(filter(None, notes))


def print_training(
    package: str,
    best: Mapping[str, float],
    open_command: str,
    note: str,
    curve: SmoothingCurve | None = None,
    *,
    report: str = "",
    console: Console | None = None,
) -> None:
    """Print the kept epoch's scores, where the model and its report are, and what to do with it."""
    console = console or Console()
    print_lines(smoothing_lines(curve), console)
    row = {
        "epoch": f"{best['epoch']:.0f}",
        "CCC-V": f"{best['val/ccc_valence']:.3f}",
        "CCC-A": f"{best['val/ccc_arousal']:.3f}",
        "P": f"{best['val/p']:.3f}",
    }
    console.print(Table.of("Kept epoch on the validation split", [row], note=note).rich())
    lines = (
        f"model     {package}",
        *([f"report    {report}"] if report else []),
        f"score it  python jobs/evaluate.py --model {package}",
        f"MLflow    {open_command}",
    )
    print_lines(lines, console)


def print_folds(done: FoldedResult, note: str, open_command: str, *, console: Console | None = None) -> None:
    """Print P of each fold and of all held-out tracks together, the epoch for a last model, and where things are."""
    console = console or Console()
    print_lines(smoothing_lines(done.curve), console)
    rows = [{"held out": f"fold {number}", "P": f"{p:.3f}"} for number, p in enumerate(done.fold_p)]
    console.print(Table.of("Each fold by the model that has not seen it", rows).rich())
    console.print(score_table(done.scores, note).rich())
    ensemble = (done.place / "ensemble.json").address
    lines = (
        f"epoch {done.epoch} is the best for all folds together: mean P {done.epoch_p[done.epoch - 1]:.3f}; a model of "
        f"everything: --everything --config.optim.epochs {done.epoch}",
        f"models    {ensemble}",
        f"predict   python jobs/predict.py VIDEO ... --model {ensemble}",
        f"held out  {done.place.address}/out-of-fold/<track>.csv",
        f"MLflow    {open_command}",
    )
    print_lines(lines, console)


def print_lines(lines: Iterable[str], console: Console) -> None:
    """Lines that are not wrapped, so that a path can be copied."""
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_scale(report: ScaleReport, folder: Path, *, console: Console | None = None) -> None:
    """Print a table, and write ``scale.json`` beside the corpus with the same figures and the machine's."""
    console = console or Console()
    best = report.best
    frames = sum(report.num_frames.values())
    figures = {
        "tracks": " + ".join(str(count) for count in report.num_tracks.values()),
        "frames": f"{frames:,}",
        "windows in an epoch": f"{report.num_windows:,}",
        "features": f"{report.feature_bytes / 1e9:.2f} GB, {report.feed}",
        "loading": f"{report.load_s:.1f} s",
        "statistics": f"{report.statistics_s:.1f} s, once",
        "epochs": ", ".join(f"{seconds:.1f} s" for seconds in report.epoch_s),
        "of which validation": f"{report.validation_s:.1f} s",
        "training": f"{report.windows_per_s:.1f} windows/s",
        "peak memory": f"{report.peak_bytes / 1e9:.2f} GB, {report.memory_ratio:.2f} x the features "
        f"({report.base_bytes / 1e9:.2f} GB before loading)",
        "P, planted relation": f"{best['val/p']:.3f} (valence {best['val/ccc_valence']:.3f}, "
        f"arousal {best['val/ccc_arousal']:.3f})",
    }
    rows = [{"": name, "value": value} for name, value in figures.items()]
    note = caveat(["synthetic"])
    console.print(Table.of("Scale test on a SYNTHETIC corpus of Aff-Wild2's shape", rows, note=note).rich())
    facts = {"synthetic": True, "device": collect(data="synthetic", device="cpu").tags(), "figures": figures}
    storage.write_json(folder / "scale.json", facts)
