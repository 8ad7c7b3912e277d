"""Frames a second against the engines that a user would take instead: Daft and Ray Data. See docs/benchmarks.md."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from affectgrid.data.features.store import FeatureStore
from benchmarks import peers
from benchmarks.conftest import CACHE
from benchmarks.steady import CORES, Timed, configure, run_encode, start_up_s, taken_by_auto

BATCH = 32
NUM_FRAMES = 8 * BATCH


@dataclasses.dataclass(frozen=True)
class EngineRun:
    """One run of an engine: seconds from its plan to the written file, what is start-up of it, and the steady speed.

    Start-up is until every process has finished its first batch, as in `Timed`. `feature` is of the first film.
    """

    whole_s: float
    start_up_s: float
    rate_hz: float
    feature: np.ndarray


def run_engine(driver: str, package: str, model: Path, out: Path, films: list[Path]) -> EngineRun:
    """An engine in a process of its own, with as many encoders of one thread as there are cores."""
    shutil.rmtree(out, ignore_errors=True)
    variables = peers.environment(CACHE, package) | {"OMP_NUM_THREADS": "1"}
    arguments = [str(model), str(out), str(BATCH), str(CORES), *map(str, films)]
    whole_s = float(peers.run_script(driver, arguments, variables))
    table = pq.read_table(out).flatten()
    table = table.rename_columns([name.removeprefix("row.") for name in table.column_names])
    assert len(table) == NUM_FRAMES * len(films)
    done_at, process = (table[name].to_numpy() for name in ("done_at", "process"))
    last = done_at.max()
    ready = max(done_at[process == one].min() for one in np.unique(process))
    rate_hz = (done_at > ready).sum() / (last - ready)
    first = table.filter(pc.ends_with(table["path"], films[0].name)).sort_by("frame_index")
    feature = np.stack(first["feature"].to_numpy())
    return EngineRun(whole_s, whole_s - (last - ready), rate_hz, feature)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("name", "driver", "package"),
    [("daft", "daft_driver.py", "daft"), ("ray_plain", "ray_plain_driver.py", "decord")],
)
def test_encode_vs_engine(name: str, driver: str, package: str, vit_b32: Path, films, say, tmp_path: Path) -> None:
    """Steady against steady, in float32 and in the precision that `auto` takes here; the whole time is told."""
    paths = films(tmp_path / "films", 3, num_frames=NUM_FRAMES)
    ours: dict[str, list[Timed]] = {precision: [] for precision in dict.fromkeys(("fp32", taken_by_auto(vit_b32)))}
    theirs = []
    for _ in range(2):
        theirs.append(run_engine(driver, package, vit_b32, tmp_path / "engine", paths))
        for precision, runs in ours.items():
            config = configure(vit_b32, precision=precision, chunk_frames=BATCH)
            runs.append(run_encode(tmp_path / "films", tmp_path / precision, config, workers=CORES))
    engine_hz = statistics.median(run.rate_hz for run in theirs)
    engine_up_s = statistics.median(run.start_up_s for run in theirs)
    engine_s = statistics.median(run.whole_s for run in theirs)
    for precision, runs in ours.items():
        cosine = worst_cosine(tmp_path / precision, runs[-1], theirs[-1].feature)
        assert cosine > 0.998  # an engine's reader resizes by another filter
        rate_hz = statistics.median(run.rate_hz for run in runs)
        whole_s = statistics.median(run.whole_s for run in runs)
        figures = (
            f"{rate_hz:.1f} over {engine_hz:.1f} frames/s; start-up {start_up_s(runs):.1f} and {engine_up_s:.1f} s, "
            f"whole {whole_s:.1f} and {engine_s:.1f} s; lowest cosine {cosine:.5f}"
        )
        say(f"encode_vs_{name} {precision}", rate_hz / engine_hz, figures, "> 1")


def worst_cosine(root: Path, run: Timed, expected: np.ndarray) -> float:
    """The least cosine between a frame's feature in the store and the engine's, over the first film."""
    table = FeatureStore(root).read("visual", run.report.fingerprints["visual"], "film0000")
    features, others = (torch.from_numpy(array.astype(np.float32)) for array in (table.feature, expected))
    assert features.shape == others.shape
    return float(torch.cosine_similarity(features, others).min())
