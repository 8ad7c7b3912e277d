"""A study on Ray Tune: as many trials at a time as the cluster holds. The same call resumes after any kill."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import ray
from ray import tune as ray_tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from affectgrid.analysis.summary import StudySummary
from affectgrid.distributed import cluster
from affectgrid.distributed.options import LogModelsOption
from affectgrid.distributed.tune.callback import NUM_RETRIES, Recorder, ended
from affectgrid.distributed.tune.confirm import confirm
from affectgrid.distributed.tune.finalize import confirmed_before, from_moments, is_stale, report, summarise
from affectgrid.distributed.tune.mlflow_logger import StudyLog
from affectgrid.distributed.tune.resources import (
    TrialResources,
    bundle,
    coordinator,
    max_concurrent_trials,
    max_pending,
)
from affectgrid.distributed.tune.searcher import GuardedOptunaSearch
from affectgrid.distributed.tune.trial import OBJECTIVE, run_trial
from affectgrid.distributed.tune.tune_actor_reuse_patch import reuse_free_actors_only
from affectgrid.errors import ConfigError, Problem, TrackingError
from affectgrid.reporting.study.confirmation import confirmation_tables
from affectgrid.reporting.study.live import SearchDisplay, opening_notes
from affectgrid.search.space.schema import SearchSpace
from affectgrid.search.study.ledger import Ledger, open_ledger
from affectgrid.search.study.warm_start import read_prior_trials
from affectgrid.storage import Storage
from affectgrid.tracking import Tracker, data_sets
from affectgrid.training import manifest
from affectgrid.training.data import PreparedData

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints its boxes even with `verbose=0`
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # JSON, CSV and TensorBoard files of each trial: the ledger has it all
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the driver at once: finished work cannot be lost
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # snapshots that nobody reads
}
_MAX_PENDING_VARIABLE = "TUNE_MAX_PENDING_TRIALS_PG"


def tune(
    space: SearchSpace,
    data: PreparedData,
    *,
    storage: Storage | Path,
    tracker: Tracker,
    max_concurrent: int | None = None,
    resources: TrialResources | None = None,
    extend: int = 0,
    warm_start: Storage | Path | None = None,
    num_confirm: int = 0,
    models: LogModelsOption | None = None,
) -> StudySummary:
    """Run the study, or the rest of it, and write its summary, figures and report into ``storage/<name>``.

    Ray must be connected, and every node must see `storage`. Raises what `open_ledger`, `Ledger.extend` and
    `read_prior_trials` raise; ConfigError: CFG-FOLDS for folds and a pruner, CFG-REGISTRY; and TrackingError (TRK-AUTH,
    TRK-FORBIDDEN), in the end, where MLflow refused the log.

    Args:
        extend: trials that are added to a study that is done.
        warm_start: place of an older study that the sampler learns from.
        num_confirm: fresh seeds with which the winner and the default are trained again and compared.
        models: which of them MLflow gets, and as what the best is registered; default: the best alone.
    """
    if len(data.parts) > 1:
        _require_fits(space, resources or TrialResources(), num_confirm)
    began, wanted = time.monotonic(), models or LogModelsOption()
    if wanted.register_as:
        tracker.require_registry()
    placed = resources or TrialResources()
    with open_ledger(Storage(storage) / space.name, space, data=data.fingerprint) as ledger:
        folder = ledger.folder
        prior_trials = read_prior_trials(warm_start, space, data=data.fingerprint) if warm_start else None
        if prior_trials is not None:
            ledger.learn(prior_trials)
        if extend:
            ledger.extend(extend)
        facts = manifest.collect(data=data.fingerprint, device=_device())
        folded = len(data.parts) > 1
        used = [part.validation for part in data.parts] if folded else [data.train, data.validation]
        log = StudyLog(tracker, ledger, facts, data_sets(used, data.fingerprint))
        try:
            known, worked = confirmed_before(ledger), not ledger.done
            if worked:
                said = opening_notes(space, prior_trials)
                for _ in range(1 + NUM_RETRIES):  # again where a lost node has left trials interrupted
                    if not ledger.done:
                        _search(ledger, data, log, max_concurrent=max_concurrent, resources=placed, said=said)
            summary = summarise(ledger, data, facts, time.monotonic() - began)
            confirmation = confirm(summary, space, data, log, num_seeds=num_confirm, bundle=bundle(placed))
            update = {"confirmation": confirmation, **from_moments(summary, ledger)}
            summary = summary.model_copy(update=update | {"wall_s": time.monotonic() - began})
            ledger.files.put(summary.write())
            changed = worked or confirmation_tables(confirmation) != known
            if changed or wanted.asks_more or is_stale(folder / "report.html", ledger, log):
                report(summary, ledger, data, log, wanted)
            ledger.settle()
        except BaseException:
            with contextlib.suppress(TrackingError):  # it has been told
                log.close("KILLED")
            raise
        log.close("FINISHED")
    return summary


def _require_fits(space: SearchSpace, resources: TrialResources, num_confirm: int) -> None:
    """What does not go with folds: an epoch's P is known when the models of all folds have been trained."""
    refused = {
        f"pruner {space.pruner}": space.pruner != "none",
        f"confirm {num_confirm}": num_confirm > 0,
        f"{resources.workers} workers a trial": resources.workers > 1,
    }
    found = ", ".join(name for name, wanted in refused.items() if wanted)
    if found:
        expected, hint = "folds without a pruner, a confirmation or several workers", "leave one of them out"
        raise ConfigError(Problem("CFG-FOLDS", where=space.name, found=found, expected=expected, hint=hint))


def _search(
    ledger: Ledger,
    data: PreparedData,
    log: StudyLog,
    *,
    max_concurrent: int | None,
    resources: TrialResources,
    said: Sequence[str] = (),
) -> None:
    space = ledger.space
    ledger.files.remove(ledger.folder / "tune")  # left by the session before: the ledger is what counts
    before = tuple(ended(record) for record in ledger.records.values())
    nested = resources.workers > 1
    clock = None if space.time_budget_s is None else lambda: ledger.time_left_s or 0.0
    shown = SearchDisplay(
        space.name,
        ledger.num_planned,
        ended=before,
        time_left_s=clock,
        num_workers=resources.workers,
        show_costs=len(space.objective) > 1,
        notes=said,
    )
    share = bundle(resources)
    with shown as display, _quiet(max_pending(share)), reuse_free_actors_only(lambda: max_pending(share)):
        trainable = ray_tune.with_parameters(  # puts the features into the object store, once
            run_trial,
            space=space,
            data=data,
            study=ledger.files,
            num_threads=max(1, int(resources.cpus)),
            num_workers=resources.workers,
            use_gpu=bool(cluster.num_gpus()),
        )
        tuner = ray_tune.Tuner(
            ray_tune.with_resources(trainable, coordinator() if nested else share),
            tune_config=ray_tune.TuneConfig(
                metric=OBJECTIVE,
                mode="max",
                num_samples=-1 if ledger.num_left is None else ledger.num_left,  # -1: until it stops proposing
                search_alg=GuardedOptunaSearch(ledger, max_concurrent_trials(resources, max_concurrent)),
                scheduler=_scheduler(space),
                reuse_actors=True,
                trial_dirname_creator=_trial_name,
                trial_name_creator=_trial_name,
            ),
            run_config=ray_tune.RunConfig(
                name="tune",
                storage_path=ledger.files.place.at(),
                storage_filesystem=None if ledger.files.place.is_local else ledger.files.place.fs,
                failure_config=ray_tune.FailureConfig(max_failures=NUM_RETRIES),
                callbacks=[Recorder(ledger, log, display)],
                verbose=0,
            ),
        )
        tuner.fit()


def _scheduler(space: SearchSpace) -> TrialScheduler:
    if space.pruner == "none":
        return FIFOScheduler()
    dimension = space.space.get("optim.epochs")
    most = max(dimension.extremes()) if dimension else space.resolve({}, seed=0).optim.epochs
    longest = int(most) * len(space.seeds) + 1  # the last report says that the trial is finished
    grace = max(1, longest // 9)
    if space.pruner == "median":  # stops a trial whose best so far is below the median of the others' running means
        never = math.inf  # else it would pause trials, and one without a checkpoint would start again
        return MedianStoppingRule(time_attr="training_iteration", grace_period=grace, min_time_slice=never)
    return ASHAScheduler(max_t=longest, grace_period=grace, reduction_factor=3)


def _device() -> str:
    return "cuda" if ray.cluster_resources().get("GPU", 0) else "cpu"


def _trial_name(trial: Trial) -> str:
    return f"{trial.config['number']:05d}"


@contextlib.contextmanager
def _quiet(max_pending: int) -> Iterator[None]:
    """Silence Tune's own tables, files and signals; what happens to trials comes through the recorder."""
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.air")]
    levels = [logger.level for logger in loggers]
    before = {name: os.environ.get(name) for name in (*_ENVIRONMENT, _MAX_PENDING_VARIABLE)}
    os.environ.update(_ENVIRONMENT | {_MAX_PENDING_VARIABLE: str(max_pending)})
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
