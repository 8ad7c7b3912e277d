"""Train the winner of a search and the default again with fresh seeds, side by side on the cluster.

Every run is a task of its own. It writes its result as one file, atomically, and a run that has its file is not run
again: the same command resumes after any kill.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from rich.console import Console

from affectgrid.analysis.confirmation import (
    Candidate,
    Confirmation,
    ConfirmRun,
    candidates,
    conclude,
    fresh_seeds,
    read_run,
)
from affectgrid.analysis.summary import StudySummary
from affectgrid.credentials import without_credentials
from affectgrid.distributed.cluster import completed
from affectgrid.distributed.tune.callback import NUM_RETRIES
from affectgrid.distributed.tune.mlflow_logger import StudyLog, epoch_point
from affectgrid.distributed.tune.trial import package_folder, train_in_process
from affectgrid.search.space.schema import SearchSpace
from affectgrid.settings import flatten
from affectgrid.storage import write_json
from affectgrid.storage.working_copy import WorkingCopy
from affectgrid.training.config import TrainConfig
from affectgrid.training.data import PreparedData
from affectgrid.training.inference.predict import moments_by_video, predict_split
from affectgrid.training.manifest import run_identity


@dataclasses.dataclass(frozen=True)
class _Run:
    """One candidate with one seed, and the file for its result."""

    candidate: Candidate
    config: TrainConfig
    identity: str
    file: Path

    @property
    def label(self) -> str:
        return f"{self.candidate.role}, seed {self.config.seed}"


def confirm(
    summary: StudySummary,
    space: SearchSpace,
    data: PreparedData,
    log: StudyLog,
    *,
    num_seeds: int,
    bundle: Mapping[str, float],
) -> Confirmation | None:
    """Run what is missing of `num_seeds` fresh seeds for the winner and for the default, and compare them.

    Args:
        bundle: what one run takes, as Ray counts it.

    With `num_seeds` 0 nothing is run, and results of earlier sessions are read. None where there is nothing to confirm.
    """
    files = log.ledger.files
    for entry in () if files.place.is_local else files.place.list_files("confirm", recursive=True):
        if entry.name.endswith((".json", ".logged")) and entry.name.count("/") == 1:
            files.fetch(files.folder / "confirm" / entry.name)
    found = candidates(space, summary.trials)
    least = num_seeds or max((_num_begun(summary.folder, one) for one in found), default=0)
    runs = [run for one in found for run in _planned(one, space, data, summary.folder, fresh_seeds(space, least))]
    missing = [run for run in runs if read_run(run.file, run.identity) is None] if num_seeds else []
    if missing:
        _run_all(missing, len(runs), data, bundle, files)
    done: dict[str, list[ConfirmRun]] = {}
    for run in runs:
        ended = read_run(run.file, run.identity)
        if ended is not None:
            done.setdefault(run.candidate.key, []).append(ended)
    log.later(lambda: _log_runs(log, runs))
    return conclude(space, summary.trials, done)


def _num_begun(folder: Path, candidate: Candidate) -> int:
    return len(list((folder / "confirm" / candidate.key).glob("seed-*.json")))


def _planned(
    candidate: Candidate, space: SearchSpace, data: PreparedData, folder: Path, seeds: Sequence[int]
) -> Iterator[_Run]:
    for seed in seeds:
        config = space.resolve(candidate.values, seed=seed)
        prompts = data.prompts[config.prompt.file]
        identity = f"{run_identity(config, data.train, data.validation, prompts)} by video"  # what its moments are of
        yield _Run(candidate, config, identity, folder / "confirm" / candidate.key / f"seed-{seed}.json")


def _run_all(
    missing: Sequence[_Run], num_runs: int, data: PreparedData, bundle: Mapping[str, float], files: WorkingCopy
) -> None:
    """All of them are given to Ray at once: as many run at a time as the cluster holds, even while it grows."""
    console = Console()
    console.print(f"confirm: {len(missing)} of {num_runs} runs with fresh seeds", highlight=False)
    shared, began = ray.put(data), time.monotonic()
    task = _confirm.options(
        num_cpus=bundle.get("CPU", 0), num_gpus=bundle.get("GPU", 0), max_retries=NUM_RETRIES, retry_exceptions=False
    )
    num_threads = max(1, int(bundle.get("CPU", 1)))
    waiting = {task.remote(shared, run.config, run.identity, files, run.file, num_threads): run for run in missing}
    for count, (run, ready) in enumerate(completed(waiting), 1):
        outcome = _outcome(ready, run, files)
        left_s = (time.monotonic() - began) / count * (len(missing) - count)
        left = datetime.timedelta(seconds=round(left_s))
        line = f"[{count}/{len(missing)}] confirm {run.label}: {outcome}, {left} left"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _outcome(ready: Any, run: _Run, files: WorkingCopy) -> str:
    try:
        ended: ConfirmRun = ray.get(ready)
        files.fetch(run.file)
    except ray.exceptions.RayError as error:  # its process died in every try
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]} (tried {NUM_RETRIES + 1} times)"
        ended = ConfirmRun(seed=run.config.seed, identity=run.identity, reason=reason)
        files.put(write_json(run.file, ended.model_dump(mode="json")))
    return f"P {ended.best['val/p']:.3f}" if ended.best else f"FAILED: {ended.reason}"


@ray.remote  # type: ignore[untyped-decorator]  # Ray is not typed
def _confirm(
    data: PreparedData, config: TrainConfig, identity: str, files: WorkingCopy, path: Path, num_threads: int
) -> ConfirmRun:
    """One run. An exception that it raises is its result: it would be raised again."""
    began = time.monotonic()
    path = files.folder / path.relative_to(path.parents[2])  # this node's cache may be elsewhere
    with contextlib.suppress(FileNotFoundError):
        files.fetch(path, again=True)
    done = read_run(path, identity)
    if done is not None:  # the process died after it had written the file
        return done
    torch.set_num_threads(num_threads)
    facts: dict[str, Any]
    try:
        result = train_in_process(
            config, data, files, package_folder(path.parent, config.seed), on_epoch=lambda _: None
        )
        predicted = predict_split(result.model, data.validation, config.window)
        moments = moments_by_video(predicted, data.validation)
        facts = {"best": result.best, "history": result.history, "moments": moments.tolist()}
    except Exception as error:
        facts = {"reason": without_credentials(f"{type(error).__name__}: {error}")}
    run = ConfirmRun(seed=config.seed, identity=identity, duration_s=round(time.monotonic() - began, 3), **facts)
    files.put(write_json(path, run.model_dump(mode="json")))
    return run


def _log_runs(log: StudyLog, runs: Sequence[_Run]) -> None:
    """A child run of the study for each candidate, a grandchild for each seed; those already logged are left alone."""
    for key in dict.fromkeys(run.candidate.key for run in runs):
        mine = [run for run in runs if run.candidate.key == key]
        ended = [(run, read_run(run.file, run.identity)) for run in mine if not log.has(_marker(run))]
        if not any(result for _, result in ended):
            continue
        role = mine[0].candidate.role
        tags = {**log.tags, "confirms": role, "label": mine[0].candidate.label}
        parent = log.tracker.child(log.run, f"confirm-{key}", f"confirm: {role}", tags=tags)
        for run, result in ended:
            if result is not None:
                _log_run(log, parent, run, result)
        scores = [result.best["val/p"] for run in mine if (result := read_run(run.file, run.identity)) and result.best]
        if scores:
            parent.metrics({"best/p": sum(scores) / len(scores)}, len(scores))
        parent.finish()


def _log_run(log: StudyLog, parent: Any, run: _Run, result: ConfirmRun) -> None:
    params = flatten(run.config)
    tags = {**log.tags, **({"reason": result.reason} if result.reason else {})}
    child = log.tracker.child(parent, f"seed-{result.seed}", f"seed {result.seed}", params=params, tags=tags)
    child.points([epoch_point(metrics) for metrics in result.history])
    if result.best:
        scores = {f"best/{name.rpartition('/')[2]}": result.best[name] for name in result.best if "val/" in name}
        child.metrics({**scores, "duration_s": result.duration_s}, int(result.best["epoch"]))
    child.finish("FAILED" if result.reason else "FINISHED")
    log.mark(_marker(run), parent, f".seed-{result.seed}")


def _marker(run: _Run) -> Path:
    return run.file.with_suffix(".logged")
