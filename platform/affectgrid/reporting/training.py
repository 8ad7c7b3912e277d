"""A finished training run, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from rich.console import Console

from affectgrid.reporting.tables import Table


class Trained(Protocol):
    """What is shown; `distributed.train.TrainResult` has it."""

    @property
    def package(self) -> Path: ...
    @property
    def best(self) -> Mapping[str, float]: ...


def print_training(result: Trained, open_command: str, note: str, *, console: Console | None = None) -> None:
    """The kept epoch's scores, where the model is, and what to do with it."""
    console = console or Console()
    best = result.best
    row = {
        "epoch": f"{best['epoch']:.0f}",
        "CCC-V": f"{best['val/ccc_valence']:.3f}",
        "CCC-A": f"{best['val/ccc_arousal']:.3f}",
        "P": f"{best['val/p']:.3f}",
    }
    console.print(Table.of("Best epoch on the validation split", [row], note=note).rich())
    for line in (
        f"model     {result.package}",
        f"score it  python jobs/evaluate.py --model {result.package}",
        f"MLflow    {open_command}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
