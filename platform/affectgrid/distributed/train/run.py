"""One training run on Ray Train, on any number of workers; the same command resumes an interrupted run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path

import ray
from ray.train import ScalingConfig

from affectgrid.credentials import without_credentials
from affectgrid.data.splits.resident import Split
from affectgrid.distributed.cluster import num_gpus
from affectgrid.distributed.train.callback import EpochLog, shown_progress
from affectgrid.distributed.train.workers import Job, run_workers
from affectgrid.errors import Problem, TrackingError, TrainingError
from affectgrid.metrics import Metrics
from affectgrid.model.fusion import FusionModel
from affectgrid.settings import flatten
from affectgrid.storage import Storage, write_atomic, write_json
from affectgrid.storage.working_copy import WorkingCopy
from affectgrid.tracking import Point, RunLog, Tracker
from affectgrid.training.build import build_model
from affectgrid.training.checkpoint import TrainingState, kept_epoch
from affectgrid.training.config import TrainConfig
from affectgrid.training.data import EncodedPrompts, PreparedData
from affectgrid.training.inference.package import save_package
from affectgrid.training.manifest import Manifest, collect, run_identity

_LOGGED = "logged"  # the name of a file that says that MLflow has the whole run
_SPLITS = "splits.csv"
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a finished run leaves in its folder.

    Args:
        place: ``<storage>/<name>``.
        folder: the same on this node, where what was read or written is.
        package: the model package in it, with the weights of the best epoch.
        best: metrics of that epoch.
        history: metrics of every epoch.
    """

    place: Storage
    folder: Path
    package: Path
    best: Metrics
    history: tuple[Metrics, ...]


def train(
    config: TrainConfig,
    data: PreparedData,
    *,
    storage: Storage | Path,
    name: str,
    num_workers: int | tuple[int, int] = 1,
    use_gpu: bool | None = None,
    max_failures: int = 3,
    resize_interval_s: float = 300.0,
    tracker: Tracker | None = None,
    on_epoch: Callable[[Metrics], None] | None = None,
) -> TrainResult:
    """Train on the cluster that this process is connected to; the same name and storage resume, or return what is done.

    The global batch is the same for any number of workers. (fewest, most) workers are elastic: the run continues with
    what is left when nodes go, and checks every `resize_interval_s` whether it can grow back; that costs the steps
    since its newest checkpoint. `use_gpu` None: where every worker (elastic: the fewest) can have one. `max_failures`:
    how often workers may die; -1: any number. When a node is about to be taken away the run saves itself in the middle
    of its epoch. `storage` must be a folder that every node sees, or a bucket. `on_epoch` is called in Ray's controller
    process and must pickle.

    Raises TrainingError: TRAIN-CHANGED where the name is taken by a run of other settings, TRAIN-STORAGE where the
    folder cannot be written, TRAIN-FAILED where workers died too often, and what `fit` raises. ConfigError
    (CFG-CONTEXT) as `build_model` does. TrackingError (TRK-AUTH, TRK-FORBIDDEN) where MLflow refuses the log.
    """
    prompts = data.prompts_for(config)
    files = WorkingCopy(Storage(storage) / name)
    _claim(files, run_identity(config, data.train, data.validation, prompts))
    done = _finished(files)
    if done is not None:
        if tracker and not _is_logged(tracker.find(name), files):
            _log_result(tracker.study(name, flatten(config), {}), done, files)
        return done
    _fresh_model(config, data.train, prompts)  # a model that cannot be built fails here once, not on every worker
    fewest = num_workers if isinstance(num_workers, int) else num_workers[0]
    gpu = num_gpus() >= fewest if use_gpu is None else use_gpu
    scaling = ScalingConfig(num_workers=num_workers, use_gpu=gpu, elastic_resize_monitor_interval_s=resize_interval_s)
    manifest = collect(data=data.fingerprint, device=_device(scaling))
    run = tracker.study(name, flatten(config), manifest.tags()) if tracker else None
    try:
        shown = contextlib.nullcontext(on_epoch) if on_epoch else shown_progress(config.optim.epochs)
        with shown as told:
            state = run_workers(
                Job(config, ray.put((data.train, data.validation)), ray.put(prompts)),
                files.place,
                scaling,
                max_failures=max_failures,
                callbacks=[EpochLog(run, told)],
            )
        if data.splits:
            files.put(write_atomic(files.folder / _SPLITS, data.splits))
        result = _finish(files, config, data, state, manifest)
    except BaseException as error:
        if run:
            with contextlib.suppress(TrackingError):  # the first error counts
                run.tags({"error": without_credentials(str(error))})
                run.finish("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    if run:
        _log_result(run, result, files)
    return result


def _is_logged(run: RunLog, files: WorkingCopy) -> bool:
    try:
        mark = files.fetch(files.folder / _LOGGED, again=True).read_text()
    except FileNotFoundError:
        return False
    known = run.marks()
    return known is None or mark in known


def _log_result(run: RunLog, result: TrainResult, files: WorkingCopy) -> None:
    """Log the best epoch and the model; first the epochs that a kill right after a checkpoint kept from the log."""
    known = run.steps("epoch") or set()
    missing = [metrics for metrics in result.history if int(metrics["epoch"]) not in known]
    run.points([Point(int(metrics["epoch"]), metrics) for metrics in missing], once=True)
    best = {f"best/{metric}": value for metric, value in result.best.items()}
    run.points([Point(int(result.best["epoch"]), best)], once=True)
    run.artifact(result.package, "model")
    with contextlib.suppress(FileNotFoundError):  # a run of an earlier version
        run.artifact(files.fetch(files.folder / _SPLITS), "config")
    run.finish()
    mark = run.mark()
    if run.deliver():
        files.put(write_atomic(files.folder / _LOGGED, mark))
    else:
        uri = without_credentials(run.uri)
        _log.warning("MLflow at %s lacks a part of the log; when it is back, the same command sends it", uri)


def _claim(files: WorkingCopy, identity: str) -> None:
    """Put the run's identity into its folder, or compare it with the one that is there."""
    note = files.folder / "run.json"
    try:
        try:
            found = json.loads(files.fetch(note, again=True).read_text())["identity"]
        except FileNotFoundError:
            files.put(write_json(note, {"identity": identity}))
            found = identity
    except OSError as error:
        hint = "choose another storage, or free some space there"
        expected = "a writable folder"
        raise TrainingError(
            Problem("TRAIN-STORAGE", where=files.place.address, found=str(error), expected=expected, hint=hint)
        ) from error
    if found != identity:
        raise TrainingError(
            Problem(
                "TRAIN-CHANGED",
                where=files.place.address,
                found=f"a run of other settings or data ({found}, now {identity})",
                expected="the configuration, prompts and data that the run started with",
                hint="use another name, or remove the folder",
            )
        )


def _finish(
    files: WorkingCopy,
    config: TrainConfig,
    data: PreparedData,
    state: TrainingState,
    manifest: Manifest,
) -> TrainResult:
    """Make the model package of the best epoch; ``result.json`` comes last and says that the run is done."""
    prompts = data.prompts_for(config)
    model = _fresh_model(config, data.train, prompts)
    model.load_state_dict(state.best_weights)
    best, package = kept_epoch(state.history, config), files.folder / "model"
    save_package(
        package,
        model,
        config,
        prompts.grid,
        encoders=data.train.encoders,
        metrics=best,
        manifest=manifest,
        fingerprints=data.features,
    )
    files.put(package)
    files.put(write_json(files.folder / "result.json", {"best": best, "history": state.history}))
    return TrainResult(files.place, files.folder, package, best, tuple(state.history))


def _fresh_model(config: TrainConfig, split: Split, prompts: EncodedPrompts) -> FusionModel:
    return build_model(config, dims=split.dims, prompts=prompts)


def _finished(files: WorkingCopy) -> TrainResult | None:
    """None also where somebody removed the model: it is made again from the last checkpoint."""
    with contextlib.suppress(OSError, ValueError):
        result = json.loads(files.fetch(files.folder / "result.json", again=True).read_text())
        package = files.fetch(files.folder / "model")
        return TrainResult(files.place, files.folder, package, result["best"], tuple(result["history"]))
    return None


def _device(scaling: ScalingConfig) -> str:
    """For example ``2 x GPU``, or ``1-4 x CPU`` of an elastic run."""
    counts = "-".join(str(count) for count in sorted({scaling.min_workers, scaling.max_workers}))
    return f"{counts} x {'GPU' if scaling.use_gpu else 'CPU'}"
