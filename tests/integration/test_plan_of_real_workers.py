"""The formulas against real workers: what one took foretells the time of one and of two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from affectgrid.data.features.report import Amount, Cost, StreamPlan
from affectgrid.distributed.encode.plan import Placement, expected_time
from support.processes import family
from support.small_corpus import film

NUM_FILMS, NUM_FRAMES = 24, 1536
WITHIN, STEADY = 0.15, 0.10

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]


def foretold_s(run: dict[str, Any], workers: int) -> float:
    """By the time of a unit, of the start and of the preparation in a run on one worker."""
    costs = {
        one["stream"]: Cost(one["decode_s"] / one["units"], one["encode_s"] / one["units"]) for one in run["timings"]
    }
    streams = [StreamPlan(**{name: amount(value) for name, value in stream.items()}) for stream in run["streams"]]
    start_s = run["timings"][0]["start_s"]
    stage = expected_time(streams, costs, Placement(True, workers, workers, 0), start_s=start_s, request_s=0)
    return run["prepared_s"] + stage.wall_s


def amount(value: Any) -> Any:
    return Amount(**value) if isinstance(value, dict) else value


def test_one_worker_foretells_one_and_two(short_tmp: Path, tmp_path: Path) -> None:
    """One, two and one again: where the runs on one worker differ, the machine had other work, and nothing holds."""
    folder = tmp_path / "films"
    for number in range(NUM_FILMS):
        film(folder / f"f{number:03}.mp4", num_frames=NUM_FRAMES, sound_s=NUM_FRAMES / 25, size=(320, 240))
    runs = []
    for number, workers in enumerate((1, 2, 1)):
        with family(short_tmp) as group:
            store = str(tmp_path / f"store{number}")
            out, _ = group.run("support.workers_driver", [str(folder), store, str(workers)], timeout_s=450)
        runs.append(json.loads(out.splitlines()[-1]))
    first, two, again = runs
    for workers, run in ((1, first), (2, two), (1, again)):
        taken_s, planned_s = run["seconds"], foretold_s(first, workers)
        print(
            f"\n{workers} workers: {taken_s:.1f} s, foretold {planned_s:.1f} s, ratio {planned_s / taken_s:.3f}", end=""
        )
    if abs(first["seconds"] / again["seconds"] - 1) > STEADY:
        pytest.skip(f"one worker took {first['seconds']:.1f} and {again['seconds']:.1f} s: the machine has other work")
    assert foretold_s(first, 1) / first["seconds"] == pytest.approx(1, abs=WITHIN)
    assert foretold_s(first, 2) / two["seconds"] == pytest.approx(1, abs=WITHIN)
