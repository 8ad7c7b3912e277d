"""Running the product's encode and telling its steady speed from its start-up."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from affectgrid.data.catalog import read_folder
from affectgrid.data.features.report import EncodeReport
from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.distributed.encode import executor
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.run import encode
from affectgrid.encoders.runtime.choice import choose
from affectgrid.encoders.runtime.precision import Resolved
from affectgrid.encoders.visual import load_visual

CORES = psutil.cpu_count(logical=False) or 1
SOUND = AudioStream(hop_s=600.0)  # the films have none


@dataclasses.dataclass(frozen=True)
class Timed:
    """One run: its report, seconds until the first chunk was done, frames a second from then on, and all seconds."""

    report: EncodeReport
    start_up_s: float
    rate_hz: float
    whole_s: float


def configure(
    model: Path | str, *, precision: str = "auto", runtime: str = "torch", **settings: object
) -> EncodeConfig:
    """Whole frames of the films, encoded by `model`."""
    visual = VisualStream(model=str(model), crop="frame", precision=precision, runtime=runtime)
    return EncodeConfig(visual=visual, audio=SOUND, **settings)


def taken_by_auto(directory: Path) -> Resolved:
    """The precision that `auto` takes on this machine."""
    encoder = load_visual(str(directory))
    choose(encoder, "torch", "auto")
    return encoder.precision


def start_up_s(runs: list[Timed]) -> float:
    """Median seconds until the first chunk was done."""
    return statistics.median(run.start_up_s for run in runs)


def run_encode(folder: Path, store: Path, config: EncodeConfig, *, workers: int) -> Timed:
    """Encode a folder of films into an empty store.

    Steady is from the time when each of the `workers` has finished its first chunk; the films must make several equal
    chunks for each.
    """
    shutil.rmtree(store, ignore_errors=True)
    arrivals: list[tuple[float, int]] = []

    @contextlib.contextmanager
    def recording(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        yield lambda size: arrivals.append((time.perf_counter(), size))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "bar", recording)
        started = time.perf_counter()
        report = encode(read_folder(folder), store, config)
        whole_s = time.perf_counter() - started
    assert report.quarantined == ()
    frames = [arrival for arrival in arrivals if arrival[1] > 1]  # a film without sound has chunks of a hop or two
    ready, done = frames[workers - 1][0], frames[-1][0]
    rate_hz = sum(size for _, size in frames[workers:]) / (done - ready)
    return Timed(report, ready - started, rate_hz, whole_s)
