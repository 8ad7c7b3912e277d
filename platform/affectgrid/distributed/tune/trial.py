"""A trial, as a worker runs it: every seed in turn, in this process, on features shared with the node's others."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from ray import tune

from affectgrid.credentials import without_credentials
from affectgrid.distributed import preflight
from affectgrid.distributed.preflight import NODE_FAULTS, require_place
from affectgrid.errors import ConfigError
from affectgrid.metrics import Metrics
from affectgrid.model.fusion import FusionModel
from affectgrid.search.space.objective import LATENCY_MS
from affectgrid.search.space.schema import SearchSpace
from affectgrid.search.study.assignment import IDENTITY, assignment, trial_folder
from affectgrid.search.study.records import MOMENTS
from affectgrid.storage import replace_directory, write_atomic, write_json
from affectgrid.storage.working_copy import WorkingCopy
from affectgrid.training.checkpoint import CheckpointFolder, Save, SaveClock, mean_history
from affectgrid.training.config import TrainConfig
from affectgrid.training.data import PreparedData
from affectgrid.training.inference.cost import model_costs
from affectgrid.training.inference.package import load_package, save_package
from affectgrid.training.inference.predict import moments_by_video, predict_split
from affectgrid.training.loop import FitResult, fit

OBJECTIVE = "objective"  # what every report holds
WORST = -1.0  # P before the first epoch: every report must have the objective
_REPORT_EVERY_S = 2.0  # a worker waits while the driver takes a report, and only a pruner needs every epoch


def run_trial(
    config: dict[str, Any],
    *,
    space: SearchSpace,
    data: PreparedData,
    study: WorkingCopy,
    num_threads: int,
    num_workers: int = 1,
    use_gpu: bool = False,
) -> None:
    """Tune's trainable. It reports epochs as they finish, and at the end ``finished`` or the ``failure``.

    An exception of the trial is reported, not raised: it would be raised again, and this process, which has imported
    torch and loaded the features, can take the next trial.
    """
    began_at, began = time.time(), time.monotonic()
    torch.set_num_threads(num_threads)
    assigned = assignment(space, config["number"], config["proposal"])
    folder = trial_folder(study.folder, assigned.number)
    study.forget(folder)  # left by another study of this name: with a bucket, only the bucket counts
    reporter = _Reporter(0.0 if space.pruner != "none" else _REPORT_EVERY_S)
    try:
        require_place(IDENTITY, study.place)
        costs: dict[str, float] = {}
        moments: dict[int, Any] = {}
        for seed in assigned.seeds:
            chosen, package = space.resolve(assigned.values, seed=seed), package_folder(folder, seed)
            if len(data.parts) > 1:
                moments[seed], model = _train_folds(chosen.keep_last(), seed, data, study, folder, reporter)
                costs = costs or _costs(model, chosen, space, data)
                continue
            if num_workers == 1:
                model = train_in_process(chosen, data, study, package, on_epoch=reporter.of(seed)).model
            else:
                model = train_distributed(seed, chosen, data, study, package, num_workers, use_gpu, reporter)
            costs = costs or _costs(model, chosen, space, data)
            predicted = predict_split(model, data.validation, chosen.window, preflight.device())
            moments[seed] = moments_by_video(predicted, data.validation).tolist()
        study.put(write_json(folder / MOMENTS, moments))
        outcome: dict[str, Any] = {OBJECTIVE: reporter.objective, "costs": costs, "finished": True}
    except Exception as error:
        study.put(write_atomic(folder / "error.txt", without_credentials(traceback.format_exc())))
        outcome = {OBJECTIVE: WORST, "failure": without_credentials(f"{type(error).__name__}: {error}")}
        if isinstance(error, ConfigError) and error.problems[0].code in NODE_FAULTS:
            outcome["refused"] = [dataclasses.asdict(problem) for problem in error.problems]
    worker = f"{platform.node()}:{os.getpid()}"
    # "done" spares the worker Tune's question whether there is more.
    reporter.send(
        outcome | {"duration_s": time.monotonic() - began, "began_at": began_at, "worker": worker, "done": True}
    )


def _costs(model: FusionModel, config: TrainConfig, space: SearchSpace, data: PreparedData) -> dict[str, float]:
    """The costs of a model of this shape that the study asks for."""
    device = preflight.device()
    latency = any(goal.metric == LATENCY_MS for goal in space.objective)
    return model_costs(model.to(device), data.validation, config.window, device=device, latency=latency)


def package_folder(trial: Path, seed: int, fold: int = 0) -> Path:
    """Where a trial keeps the model of a seed, and of a fold where there are several."""
    return trial / (f"seed-{seed}-fold-{fold}" if fold else f"seed-{seed}")


def _train_folds(
    config: TrainConfig, seed: int, data: PreparedData, study: WorkingCopy, folder: Path, reporter: _Reporter
) -> tuple[list[Any], FusionModel]:
    """A model for each fold; the moments of all held-out videos, and one of the models."""
    moments: list[Any] = []
    histories = []
    for number, part in enumerate(data.parts):
        package = package_folder(folder, seed, number)
        result = train_in_process(config, part, study, package, on_epoch=lambda _: None)
        predicted = predict_split(result.model, part.validation, config.window, preflight.device())
        moments += moments_by_video(predicted, part.validation).tolist()
        histories.append(result.history)
    reporter.take(seed, mean_history(histories))
    return moments, result.model


def train_in_process(
    config: TrainConfig, data: PreparedData, files: WorkingCopy, package: Path, *, on_epoch: Callable[[Metrics], None]
) -> FitResult:
    """One run in this process, from its newest checkpoint where a kill left one; its model is kept as `package`.

    Model and checkpoints are under `files`, and are uploaded before this returns: the node may go away at any time.
    A run of more than a minute is saved each minute, also within an epoch; a short one is not slowed down.
    """
    prompts, clock = data.prompts[config.prompt.file], SaveClock()
    checkpoints = CheckpointFolder(package.with_name(f"{package.name}-checkpoints"), files)

    def report(metrics: Metrics, save: Save) -> None:
        if clock():
            checkpoints.keep(metrics, save)
            clock.saved()
        if "step" not in metrics:
            on_epoch(metrics)

    device = preflight.device()
    resume = checkpoints.load()
    for metrics in resume.history if resume else ():
        on_epoch(metrics)  # the listener is new too
    result = fit(config, data.train, data.validation, prompts, report=report, pause=clock, resume=resume, device=device)
    encoders, prints = dict(data.train.encoders), data.features
    save_package(
        package, result.model, config, prompts.grid, encoders=encoders, metrics=result.best, fingerprints=prints
    )
    files.put(package)
    checkpoints.clear()
    return result


def train_distributed(
    seed: int,
    config: TrainConfig,
    data: PreparedData,
    files: WorkingCopy,
    package: Path,
    num_workers: int,
    use_gpu: bool,
    reporter: _Reporter,
) -> FusionModel:
    """One run on several workers of Ray Train, by the same `fit`; it too resumes from its newest checkpoint."""
    from affectgrid.distributed.train.run import train  # Ray Train takes seconds to import, and few trials need it

    storage = package.with_name(f"{package.name}-workers")
    result = train(
        config,
        data,
        storage=files.place_of(storage),
        name="run",
        num_workers=num_workers,
        use_gpu=use_gpu,
        on_epoch=reporter.relay(seed),
    )
    reporter.take(seed, result.history)
    with replace_directory(package) as draft:
        shutil.copytree(result.package, draft, dirs_exist_ok=True)
    files.put(package)
    files.remove(storage)
    return load_package(package).model


@dataclasses.dataclass(frozen=True)
class _Relay:
    """Carries epochs from Ray Train's controller, which is another process, to this trial's session."""

    queue: Any
    seed: int
    finished: tuple[float, ...]
    epochs_before: int

    def __call__(self, metrics: Metrics) -> None:
        objective = statistics.fmean([*self.finished, metrics["val/p_best"]])
        epochs = self.epochs_before + int(metrics["epoch"])
        self.queue.put({OBJECTIVE: objective, "rows": [(self.seed, metrics)], "epochs": epochs})


class _Reporter:
    """Collects epochs and reports them to Tune, at most once in `every_s`; 0: each by itself."""

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self._best: dict[int, float] = {}
        self._rows: list[tuple[int, Metrics]] = []
        self._num_epochs = 0
        self._sent = time.monotonic()

    @property
    def objective(self) -> float:
        """The mean over the finished seeds' best P and this seed's best so far."""
        return statistics.fmean(self._best.values())

    def of(self, seed: int) -> Callable[[Metrics], None]:
        """What is called after each epoch of a seed."""

        def on_epoch(metrics: Metrics) -> None:
            self._best[seed] = metrics["val/p_best"]
            self._rows.append((seed, metrics))
            self._num_epochs += 1
            if time.monotonic() - self._sent >= self.every_s:
                self.send({OBJECTIVE: self.objective})

        return on_epoch

    def relay(self, seed: int) -> Callable[[Metrics], None]:
        """What Ray Train's controller calls after each epoch of a seed; it can be pickled."""
        from ray.train._internal.session import get_session  # as ray.tune's own TuneReportCallback does

        queue = get_session()._get_or_create_inter_actor_queue()
        return _Relay(queue, seed, tuple(self._best.values()), self._num_epochs)

    def take(self, seed: int, history: Sequence[Metrics]) -> None:
        """All epochs of a seed that another process trained; those already relayed are recognised by their numbers."""
        self._best[seed] = history[-1]["val/p_best"]
        self._rows += [(seed, metrics) for metrics in history]
        self._num_epochs += len(history)

    def send(self, result: dict[str, Any]) -> None:
        """Report, with the epochs since the last report."""
        rows, self._rows = self._rows, []
        tune.report({**result, "rows": rows, "epochs": self._num_epochs})
        self._sent = time.monotonic()
