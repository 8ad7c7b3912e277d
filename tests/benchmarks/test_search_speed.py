"""The wall time of a search, against the loop that a researcher writes. See docs/benchmarks.md."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest

from affectgrid.distributed.tune.run import tune
from affectgrid.tracking import open_tracker
from benchmarks import search_work
from support.waits import waits_s

NUM_TRIALS, NUM_RIVALS = 64, 8


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.timeout(1200)
def test_search_vs_optuna(say, short_tmp: Path) -> None:
    """64 equal trials through `tune` on a Ray that is up, over `study.optimize`, the better of one and two threads.

    All of `tune` counts: starting its workers, the ledger, MLflow, the figures and the report. The loop's 16 trials
    stand for 64: it has no start-up and its trials are equal. Half of them are run before ours, half after.
    """
    epochs = search_work.equal_epochs()
    study = search_work.space("equal", trials=NUM_TRIALS, epochs=epochs)
    tracker = open_tracker(f"sqlite:///{short_tmp / 'mlflow.db'}", "bench")
    loops: dict[int, list[float]] = {1: [], 2: []}

    bare: list[float] = []

    def baseline() -> None:
        for threads, seconds in loops.items():
            seconds.append(search_work.researchers_loop(study, trials=NUM_RIVALS, threads=threads))
        bare.append(search_work.side_by_side(epochs, trials=NUM_RIVALS, processes=2))

    baseline()
    started = time.perf_counter()
    summary = tune(study, search_work.data(), storage=short_tmp, tracker=tracker)
    ours_s = time.perf_counter() - started
    baseline()
    assert len(summary.complete) == NUM_TRIALS
    theirs = {threads: statistics.fmean(seconds) * NUM_TRIALS / NUM_RIVALS for threads, seconds in loops.items()}
    assert summary.best is not None
    best_s, work_s = min(theirs.values()), statistics.median(trial.duration_s for trial in summary.trials)
    threads = " and ".join(f"{seconds:.1f} s with {count}" for count, seconds in theirs.items())
    workers = len({trial.worker for trial in summary.trials})
    figures = f"{ours_s:.1f} s on {workers} workers over {threads} threads; a trial {work_s:.2f} s beside another"
    say("search_vs_optuna", ours_s / best_s, figures, "<= 0.62 on 2 cores")
    limit_s = statistics.fmean(bare) * NUM_TRIALS / 2
    figures = f"{ours_s:.1f} over {limit_s:.1f} s, which two bare processes take, their start not counted"
    say("search_vs_limit", ours_s / limit_s, figures, "told")
    waits = waits_s(summary.trials)
    began, ended = (
        min(trial.began_at for trial in summary.trials),
        max(trial.began_at + trial.duration_s for trial in summary.trials),
    )
    around = f"{ours_s - (ended - began):.1f} s before the first and after the last, once a search"
    figures = f"mean of {len(waits)} waits of a worker between two trials, longest {max(waits):.2f} s; {around}"
    say("search_overhead_s", statistics.fmean(waits), figures, "<= 0.06")
