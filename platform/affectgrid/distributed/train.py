"""One training run on Ray Train: any number of workers, and the same command goes on where it was broken off."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from affectgrid.distributed.cluster import num_gpus  # isort: skip  # sets what Ray reads when it is imported

import ray
import ray.train
import ray.train.torch
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, UserCallback

from affectgrid.data.resident import Split
from affectgrid.errors import AffectGridError, Problem, TrainingError
from affectgrid.model.fusion import FusionModel
from affectgrid.tracking import RunLog, Tracker
from affectgrid.training.assemble import build_model
from affectgrid.training.checkpoint import Save, TrainingState, load_newest
from affectgrid.training.config import TrainConfig
from affectgrid.training.loop import Metrics, best_epoch, fit, run_identity
from affectgrid.training.manifest import Manifest, collect
from affectgrid.training.package import save_package
from affectgrid.training.prepared import PreparedData
from affectgrid.training.prompts import EncodedPrompts
from affectgrid.training.workers import SINGLE, process_group

_log = logging.getLogger(__name__)
_MAX_FAILURES = 3  # of the worker group; each goes on from the newest checkpoint


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a finished run leaves in its folder.

    Args:
        folder: ``<storage>/<name>``.
        package: the model package, with the weights of the best epoch.
        best: metrics of that epoch.
        history: metrics of every epoch.
    """

    folder: Path
    package: Path
    best: Metrics
    history: tuple[Metrics, ...]


def train(
    config: TrainConfig,
    data: PreparedData,
    *,
    storage: Path,
    name: str,
    num_workers: int = 1,
    use_gpu: bool | None = None,
    tracker: Tracker | None = None,
    on_epoch: Callable[[Metrics], None] | None = None,
) -> TrainResult:
    """Train on the cluster that this process is connected to; the same name and storage resume, or return what is done.

    The global batch is the same whatever `num_workers` is. `use_gpu` None: where every worker can have one. `storage`
    must be a folder that every node sees. `on_epoch` is called in Ray's controller process and must pickle.

    Raises TrainingError: TRAIN-CHANGED where the name is taken by a run of other settings, TRAIN-STORAGE where the
    folder cannot be written, TRAIN-FAILED where workers died too often, and what `fit` raises. ConfigError
    (CFG-CONTEXT) as `build_model` does.
    """
    prompts = data.prompts_for(config)
    folder = _claim(storage.resolve() / name, run_identity(config, data.train, data.validation, prompts))
    done = _finished(folder)
    if done is not None:
        return done
    _fresh_model(
        config, data.train, prompts
    )  # what cannot be built fails here once, not on every worker again and again
    gpu = num_gpus() >= num_workers if use_gpu is None else use_gpu
    manifest = collect(data=data.fingerprint, device=f"{num_workers} x {'GPU' if gpu else 'CPU'}")
    run = tracker.study(name, _flat(config), manifest.tags()) if tracker else None
    try:
        state = _run_workers(
            _Job(config, ray.put((data.train, data.validation)), ray.put(prompts)),
            folder,
            ScalingConfig(num_workers=num_workers, use_gpu=gpu),
            [_EpochLog(run, on_epoch)] if run or on_epoch else [],
        )
        result = _finish(folder, config, data.train, prompts, state, manifest)
    except BaseException as error:
        if run:
            run.tags({"error": error})
            run.finish("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    if run:
        _log_missing(run, result.history)
        run.metrics({f"best/{metric}": value for metric, value in result.best.items()}, int(result.best["epoch"]))
        run.artifact(result.package, "model")
        run.finish()
    return result


@dataclasses.dataclass(frozen=True)
class _Job:
    """What travels to every worker; splits and prompts, which may bring a text encoder, stay in the object store.

    The arrays of the splits are mapped from there and not copied.
    """

    config: TrainConfig
    splits: Any
    prompts: Any


class _EpochLog(UserCallback):  # type: ignore[misc]
    """Runs in Train's controller: hands on what rank 0 reports, each epoch once, also when a worker died in between."""

    def __init__(self, run: RunLog | None, on_epoch: Callable[[Metrics], None] | None) -> None:
        self.run, self.on_epoch = run, on_epoch
        self.known = (run.steps("epoch") or set()) if run else set()

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        epoch = int(metrics[0]["epoch"])
        if epoch in self.known:
            return
        self.known.add(epoch)
        if self.run:
            self.run.metrics(metrics[0], step=epoch)
        if self.on_epoch:
            self.on_epoch(metrics[0])


def _log_missing(run: RunLog, history: tuple[Metrics, ...]) -> None:
    """Epochs whose checkpoint was saved in the moment before a kill, and whose metrics were not logged any more."""
    known = run.steps("epoch")
    missing = [metrics for metrics in history if known is not None and int(metrics["epoch"]) not in known]
    for metrics in missing:
        run.metrics(metrics, step=int(metrics["epoch"]))


def _run_workers(job: _Job, folder: Path, scaling: ScalingConfig, callbacks: list[UserCallback]) -> TrainingState:
    """Let Ray Train run `_work` on every worker, and return where the run stood at its end."""
    trainer = ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"job": job},
        scaling_config=scaling,
        run_config=RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            failure_config=FailureConfig(max_failures=_MAX_FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=2),  # the newest may be torn
            callbacks=callbacks,
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _own_error(error, folder) from error
    if isinstance(result.return_value, AffectGridError):
        raise result.return_value
    state = load_newest(_newest_first(result.checkpoint))
    assert state is not None
    return state


def _work(settings: dict[str, Any]) -> AffectGridError | None:
    """One worker.

    An error that every worker meets alike is returned: Ray would try it again, and it would come again.
    """
    job: _Job = settings["job"]
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(1)  # several workers share a machine, and sums in one order are the same sums
    context = ray.train.get_context()
    workers = process_group(device) if context.get_world_size() > 1 else SINGLE
    train_split, validation_split = ray.get(job.splits)
    newest = ray.train.get_checkpoint()
    try:
        fit(
            job.config,
            train_split,
            validation_split,
            ray.get(job.prompts),
            report=_report_from(context.get_world_rank()),
            resume=load_newest(_newest_first(newest)) if newest else None,
            workers=workers,
            device=device,
        )
    except TrainingError as error:
        if error.problems[0].code.startswith("TRAIN-"):
            return error
        raise
    return None


def _report_from(rank: int) -> Callable[[Metrics, Save], None]:
    def report(metrics: Metrics, save: Save) -> None:
        if rank:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            ray.train.report(metrics, checkpoint=Checkpoint.from_directory(save(Path(folder) / "checkpoint")))

    return report


def _newest_first(newest: Checkpoint) -> list[Path]:
    """The checkpoint that Ray registered last, and the ones before it that are still in its folder.

    Nothing newer: a killed run may have left one that is half copied, and all workers must start from the same.
    """
    path = Path(newest.path)
    older = sorted((other for other in path.parent.glob("checkpoint_*") if other.name < path.name), reverse=True)
    return [path, *older]


def _claim(folder: Path, identity: str) -> Path:
    """Make the run's folder and put the run's identity there, or compare it with the one that is there."""
    note = folder / "run.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not note.exists():
            _write(note, {"identity": identity})
        found = json.loads(note.read_text())["identity"]
    except OSError as error:
        mend = "choose another storage, or make room there"
        problem = Problem("TRAIN-STORAGE", str(folder), str(error), "a folder that can be written", mend)
        raise TrainingError(problem) from error
    if found != identity:
        raise TrainingError(
            Problem(
                "TRAIN-CHANGED",
                str(folder),
                f"a run of other settings or data ({found}, now {identity})",
                "the configuration, prompts and data that the run began with",
                "use another name, or remove the folder",
            )
        )
    return folder


def _finish(
    folder: Path,
    config: TrainConfig,
    split: Split,
    prompts: EncodedPrompts,
    state: TrainingState,
    manifest: Manifest,
) -> TrainResult:
    """Make the model package of the best epoch; ``result.json`` comes last and says that the run is done."""
    model = _fresh_model(config, split, prompts)
    model.load_state_dict(state.best_weights)
    best = best_epoch(state.history)
    save_package(
        folder / "model", model, config, prompts.grid, encoders=split.encoders, metrics=best, manifest=manifest
    )
    _write(folder / "result.json", {"best": best, "history": state.history})
    return TrainResult(folder, folder / "model", best, tuple(state.history))


def _fresh_model(config: TrainConfig, split: Split, prompts: EncodedPrompts) -> FusionModel:
    sizes = {"visual_dim": split.visual.shape[1], "audio_dim": split.audio.shape[1]}
    return build_model(config, prompts=prompts, **sizes)


def _finished(folder: Path) -> TrainResult | None:
    with contextlib.suppress(OSError, ValueError):
        result = json.loads((folder / "result.json").read_text())
        if not (folder / "model").is_dir():
            return None  # somebody took it away; the last checkpoint makes it again
        return TrainResult(folder, folder / "model", result["best"], tuple(result["history"]))
    return None


def _own_error(error: Exception, folder: Path) -> AffectGridError:
    """Our own error where a worker raised one, else one that says what Ray said."""
    failures = list(getattr(error, "worker_failures", {}).values())
    for failure in failures:
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, AffectGridError):
                return cause
            cause = cause.__cause__
    found = str(failures[0] if failures else error).strip().splitlines()[-1]
    mend = "look for the cause in Ray's logs, then give the same command: it goes on from the last checkpoint"
    return TrainingError(Problem("TRAIN-FAILED", str(folder), found, "workers that live", mend))


def _flat(config: TrainConfig) -> dict[str, object]:
    """Dotted names, as a search space has them."""

    def walk(prefix: str, value: object) -> dict[str, object]:
        if not isinstance(value, dict):
            return {prefix: value}
        return {k: v for name, part in value.items() for k, v in walk(f"{prefix}.{name}".lstrip("."), part).items()}

    return walk("", config.model_dump(mode="json"))


def _write(path: Path, value: object) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    partial.replace(path)
