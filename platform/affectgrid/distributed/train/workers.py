"""The worker group of a training run: Ray Train calls `fit` on every worker, saves, and starts again after a loss."""

from __future__ import annotations

import dataclasses
import posixpath
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from pyarrow.fs import FileSelector, FileType
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, UserCallback

from affectgrid.errors import AffectGridError, Problem, TrainingError
from affectgrid.metrics import Metrics
from affectgrid.storage import Storage
from affectgrid.training.checkpoint import Save, SaveClock, TrainingState, load_newest
from affectgrid.training.config import TrainConfig
from affectgrid.training.loop import fit
from affectgrid.training.workers import SINGLE, Workers, process_group

_STEPS_BETWEEN_LOOKS = 8  # a look for a preemption is a barrier of all workers: a few milliseconds


@dataclasses.dataclass(frozen=True)
class Job:
    """What travels to every worker; splits and prompts, which may bring a text encoder, stay in the object store.

    The arrays of the splits are mapped from there and not copied.
    """

    config: TrainConfig
    splits: Any
    prompts: Any


class _Trainer(ray.train.torch.TorchTrainer):  # type: ignore[misc]
    """Leaves Ctrl-C to the job, which then says how to resume: Ray's handler would end the process with status 1."""

    def _register_sigint_handler(self, controller: Any) -> None:
        pass


def run_workers(
    job: Job, place: Storage, scaling: ScalingConfig, *, max_failures: int, callbacks: list[UserCallback]
) -> TrainingState:
    """Let Ray Train run `_work` on every worker, and return where the run stood at its end.

    `max_failures` limits how often the worker group may die and resume from the newest checkpoint: a bug of our own
    would fail every time and be tried for ever. A node that is taken away is not a failure in this sense, and a run
    on spot machines may lose any number of them. Even then barriers wait for all workers
    (`relax_collectives_on_preemption` stays off): a step and a checkpoint of a few megabytes take far less than the
    half minute or more of warning that a cloud gives. Raises TrainingError.
    """
    parent, name = posixpath.split(place.at())
    trainer = _Trainer(
        _work,
        train_loop_config={"job": job},
        scaling_config=scaling,
        run_config=RunConfig(
            name=name,
            storage_path=parent,
            storage_filesystem=None if place.is_local else place.fs,
            failure_config=FailureConfig(max_failures=max_failures, max_preemption_failures=-1),
            checkpoint_config=CheckpointConfig(num_to_keep=2),  # the newest may be torn
            callbacks=callbacks,
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _own_error(error, place.address) from error
    if isinstance(result.return_value, AffectGridError):
        raise result.return_value
    state = load_newest(_newest_first(result.checkpoint))
    assert state is not None
    return state


def _work(settings: dict[str, Any]) -> AffectGridError | None:
    """One worker.

    An error that every worker meets is returned, not raised: Ray would try again, and it would fail again.
    """
    job: Job = settings["job"]
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(1)  # several workers share a machine, and a fixed order of summation gives the same sums
    context = ray.train.get_context()
    workers = process_group(device) if context.get_world_size() > 1 else SINGLE
    train_split, validation_split = ray.get(job.splits)
    newest = ray.train.get_checkpoint()
    watch = SaveWatch(workers)
    try:
        fit(
            job.config,
            train_split,
            validation_split,
            ray.get(job.prompts),
            report=_report_from(context.get_world_rank(), watch),
            pause=watch,
            resume=load_newest(_newest_first(newest)) if newest else None,
            workers=workers,
            device=device,
        )
    except TrainingError as error:
        if error.problems[0].code.startswith("TRAIN-"):
            return error
        raise
    return None


def _report_from(rank: int, watch: SaveWatch) -> Callable[[Metrics, Save], None]:
    def report(metrics: Metrics, save: Save) -> None:
        if rank:
            ray.train.report(metrics)
        else:
            with tempfile.TemporaryDirectory() as folder:
                ray.train.report(metrics, checkpoint=Checkpoint.from_directory(save(Path(folder) / "checkpoint")))
        watch.clock.saved()

    return report


class SaveWatch:
    """True where the newest checkpoint is a minute old, and once for every warning that a node is about to go away.

    An epoch of a large data set takes minutes on CPUs: a killed worker then costs a minute, and a node that is taken
    away, with a warning half a minute to two before the end, nothing. All workers get the same answer: rank 0's clock
    counts, and Ray hands all of them what rank 0 has heard.
    """

    def __init__(self, workers: Workers) -> None:
        self.clock = SaveClock()
        self._workers = workers
        self._steps = 0
        self._known: set[str] = set()

    def __call__(self) -> bool:
        self._steps += 1
        if self._steps % _STEPS_BETWEEN_LOOKS:
            return False
        info = ray.train.get_preemption_info()
        leaving = set(info.preempted_node_ids) - self._known if info else set()
        self._known |= leaving
        due = self._workers.gather(torch.tensor([int(self.clock())]))[0]
        return bool(leaving) or bool(due)


def _newest_first(newest: Checkpoint) -> Iterator[Path]:
    """The checkpoint that Ray registered last, and the ones before it that are still beside it; copies of a bucket's.

    Nothing newer: a killed run may have left one half copied, and all workers must start from the same checkpoint.
    """
    parent, name = posixpath.split(newest.path)
    infos = newest.filesystem.get_file_info(FileSelector(parent))
    beside = {posixpath.basename(info.path.rstrip("/")) for info in infos if info.type == FileType.Directory}
    older = sorted((other for other in beside if other.startswith("checkpoint_") and other < name), reverse=True)
    for each in (name, *older):
        with Checkpoint(posixpath.join(parent, each), newest.filesystem).as_directory() as folder:
            yield Path(folder)


def _own_error(error: Exception, where: str) -> AffectGridError:
    """Our own error where a worker raised one, else one with Ray's message."""
    failures = list(getattr(error, "worker_failures", {}).values())
    for failure in failures:
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, AffectGridError):
                return cause
            cause = cause.__cause__
    found = str(failures[0] if failures else error).strip().splitlines()[-1]
    hint = "look for the cause in Ray's logs, then give the same command: it resumes from the last checkpoint"
    return TrainingError(Problem("TRAIN-FAILED", where=where, found=found, expected="live workers", hint=hint))
