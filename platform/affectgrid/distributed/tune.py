"""A study on Ray Tune: as many trials at a time as the cluster holds. The same call goes on after any kill."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import ray
from pydantic import Field
from ray import tune as ray_tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from affectgrid.distributed import cluster
from affectgrid.distributed.confirm import confirm
from affectgrid.distributed.patience import patient_controller, proposals_ahead
from affectgrid.distributed.recorder import NUM_RETRIES, Recorder, ended
from affectgrid.distributed.searcher import GuardedOptunaSearch
from affectgrid.distributed.study_log import StudyLog
from affectgrid.distributed.trial import OBJECTIVE, package_folder, run_trial
from affectgrid.errors import ConfigError, ModelError
from affectgrid.reporting.live import SearchDisplay
from affectgrid.reporting.study import BestModel, SearchFigures, add_front, draw_best, draw_search, write_report
from affectgrid.search.arms import compare_arms
from affectgrid.search.comparison import Difference
from affectgrid.search.effects import effects, sigma_by_grid
from affectgrid.search.fits import notes
from affectgrid.search.importance import Importance
from affectgrid.search.ledger import Ledger, open_ledger
from affectgrid.search.ped_anova import importance
from affectgrid.search.schema import SearchSpace
from affectgrid.search.summary import StudySummary, TrialRecord, front
from affectgrid.search.warm_start import read_lessons
from affectgrid.settings import Settings
from affectgrid.tracking import Tracker
from affectgrid.training import manifest
from affectgrid.training.package import load_package
from affectgrid.training.prepared import PreparedData

_log = logging.getLogger(__name__)
_MOST_TRIALS_ON_A_GPU = 4
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints its boxes whatever `verbose` says
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # JSON, CSV and TensorBoard files of each trial: the ledger has it all
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the driver at once: nothing that is finished can be lost
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # snapshots that no one reads
}


_AHEAD = "TUNE_MAX_PENDING_TRIALS_PG"
# A trial's end wakes Tune's controller, for which a worker waits, and the thread that writes to MLflow, for which
# nobody does. By Python's default each turn of the other may cost the controller 5 ms.
_SWITCH_S = 0.0005


class TrialResources(Settings):
    """What one trial takes. `gpus` None: a share of a GPU where the cluster has one, else none.

    With several `workers` a trial is trained by Ray Train: each worker takes `cpus`, and a whole GPU where there are.
    """

    cpus: float = 1.0
    gpus: float | None = None
    workers: int = Field(1, gt=0)


def tune(
    space: SearchSpace,
    data: PreparedData,
    *,
    storage: Path,
    tracker: Tracker,
    max_concurrent: int | None = None,
    resources: TrialResources | None = None,
    extend: int = 0,
    warm_start: Path | None = None,
    num_confirm: int = 0,
) -> StudySummary:
    """Run the study, or what is left of it, and write its summary, figures and report into ``storage/<name>``.

    Ray must be connected, and every node must see `storage`. Raises what `open_ledger`, `Ledger.extend` and
    `read_lessons` raise.

    Args:
        extend: trials that are added to a study that is done.
        warm_start: folder of an older study that the sampler learns from.
        num_confirm: fresh seeds with which the winner and the default are trained again and compared.
    """
    folder = storage / space.name
    began = time.monotonic()
    placed = resources or TrialResources()
    with open_ledger(folder, space, data=data.fingerprint) as ledger:
        lessons = read_lessons(warm_start, space, data=data.fingerprint) if warm_start else None
        if lessons is not None:
            ledger.learn(lessons)
        if extend:
            ledger.extend(extend)
        facts = manifest.collect(data=data.fingerprint, device=_device())
        log = StudyLog(tracker, ledger, facts)
        status = "KILLED"
        try:
            known, worked = _confirmed_before(folder), not ledger.done
            if worked:
                said = [*notes(space), *([lessons.describe()] if lessons else [])]
                _search(ledger, data, log, max_concurrent=max_concurrent, resources=placed, said=said)
            summary = _summarise(ledger, data, facts, time.monotonic() - began)
            confirmation = confirm(summary, space, data, log, num_seeds=num_confirm, bundle=_bundle(placed))
            update = {"confirmation": confirmation, "differences": _differences(summary, ledger, data)}
            summary = summary.model_copy(update=update | {"wall_s": time.monotonic() - began})
            summary.write()
            if worked or summary.confirmation_tables() != known or _is_stale(folder / "report.html", ledger):
                _report(summary, ledger, data, log)
            ledger.settle()
            status = "FINISHED"
        finally:
            log.close(status)
    return summary


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
    shutil.rmtree(ledger.folder / "tune", ignore_errors=True)  # of the session before: the ledger is what counts
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
    with shown as display, _quiet(_ahead(resources)), patient_controller(lambda: _ahead(resources)):
        trainable = ray_tune.with_parameters(  # puts the features into the object store, once
            run_trial,
            space=space,
            data=data,
            study=str(ledger.folder),
            num_threads=max(1, int(resources.cpus)),
            num_workers=resources.workers,
            use_gpu=bool(cluster.num_gpus()),
        )
        tuner = ray_tune.Tuner(
            ray_tune.with_resources(trainable, _coordinator() if nested else _bundle(resources)),
            tune_config=ray_tune.TuneConfig(
                metric=OBJECTIVE,
                mode="max",
                num_samples=-1 if ledger.num_left is None else ledger.num_left,  # -1: as long as it proposes
                search_alg=GuardedOptunaSearch(ledger, _most_at_a_time(resources, max_concurrent)),
                scheduler=_scheduler(space),
                reuse_actors=True,
                trial_dirname_creator=_trial_name,
                trial_name_creator=_trial_name,
            ),
            run_config=ray_tune.RunConfig(
                name="tune",
                storage_path=str(ledger.folder),
                failure_config=ray_tune.FailureConfig(max_failures=NUM_RETRIES),
                callbacks=[Recorder(ledger, log, display)],
                verbose=0,
            ),
        )
        tuner.fit()


def _confirmed_before(folder: Path) -> list[list[dict[str, str]]]:
    with contextlib.suppress(ConfigError):
        return StudySummary.read(folder).confirmation_tables()
    return []


def _summarise(ledger: Ledger, data: PreparedData, facts: manifest.Manifest, wall_s: float) -> StudySummary:
    records = tuple(record for _, record in sorted(ledger.records.items()))
    summary = StudySummary(
        name=ledger.space.name,
        description=ledger.space.description,
        space=ledger.space.identity(),
        data=data.fingerprint,
        encoders=data.train.encoders,
        rendered=all(track.startswith("rendered-") for track in data.validation.track_ids),
        num_planned=len(records) if ledger.num_planned is None else ledger.num_planned,
        trials=records,
        pareto=front(records, ledger.space.objective),
        out_of_time=ledger.num_left != 0 and ledger.out_of_time,
        wall_s=wall_s,
        folder=ledger.folder,
        commit=facts.commit,
        command=facts.command,
        importance=None if ledger.space.arms else _importance(ledger),
    )
    summary.write()
    return summary


def _differences(summary: StudySummary, ledger: Ledger, data: PreparedData) -> dict[str, Difference]:
    """Of the arms; none where a model was made by another version of the code, before a kill."""
    arms = summary.arms
    folders = {
        trial.number: package_folder(ledger.folder_of(trial.number), trial.seeds[0].seed)
        for trials in arms.values()
        for trial in trials
    }
    try:
        return compare_arms(arms, folders, data.validation)
    except ModelError as error:
        _log.warning("the arms cannot be compared: %s", error)
        return {}


def _importance(ledger: Ledger) -> Importance:
    complete = {number: record for number, record in ledger.records.items() if record.state == "complete"}
    scores = {number: record.objective for number, record in complete.items() if record.objective is not None}
    return importance(ledger.study.get_trials(deepcopy=False), scores)


def _report(summary: StudySummary, ledger: Ledger, data: PreparedData, log: StudyLog) -> None:
    """Figures and report, beside the study and in MLflow."""
    drawn: BestModel | None = None
    if summary.best is not None:
        try:
            drawn = _draw(summary, summary.best, ledger, data, log)
        except ModelError as error:  # made by another version of the code, before a kill: the scores still hold
            _log.warning("the best model cannot be drawn: %s", error)
    searched = _draw_search(summary, ledger, log)
    report = write_report(summary, drawn, searched)
    log.artifacts([report, ledger.folder / "summary.json"], "report")


def _is_stale(report: Path, ledger: Ledger) -> bool:
    """Whether a kill came between the last trial and the report."""
    ends = [(ledger.folder_of(number) / "trial.json").stat().st_mtime for number in ledger.records]
    return not report.exists() or max(ends, default=0.0) > report.stat().st_mtime


def _draw_search(summary: StudySummary, ledger: Ledger, log: StudyLog) -> SearchFigures | None:
    if summary.importance is None:
        return None
    points = sigma_by_grid(ledger.space, summary.trials)
    drawn = draw_search(
        ledger.folder / "search",
        summary.importance.parameters,
        effects(ledger.space, summary.trials),
        points if isinstance(points, str) else (points.sigma, points.grid, points.scores),
    )
    log.artifacts([picture.path for picture in drawn.pictures], "figures")
    return drawn


def _draw(summary: StudySummary, best: TrialRecord, ledger: Ledger, data: PreparedData, log: StudyLog) -> BestModel:
    seed = max(best.seeds, key=lambda record: record.best["val/p"])
    package = package_folder(ledger.folder_of(best.number), seed.seed)
    # A copy under a name that stays: what evaluate and predict are told to use.
    shutil.rmtree(ledger.folder / "best", ignore_errors=True)
    shutil.copytree(package, ledger.folder / "best" / "model")
    drawn = draw_best(
        load_package(package),
        data.validation,
        ledger.folder / "best",
        histories={f"seed {record.seed}": record.history for record in best.seeds},
        course={trial.number: trial.objective for trial in summary.trials if trial.objective is not None},
    )
    if summary.pareto:
        numbers = [point.trial for point in summary.pareto]
        drawn = add_front(drawn, ledger.folder / "best", summary.cost_points(), numbers)
    pictures = [picture.path for picture in drawn.pictures]
    log.artifacts(pictures, "figures")
    log.artifacts(pictures, "figures", trial=best.number)
    log.artifacts([package], "model", trial=best.number)
    scores = {f"best/{name.rpartition('/')[2]}": value for name, value in drawn.scores.as_metrics().items()}
    log.summary(scores, {"best_trial": best.number, "failed_trials": len(summary.failed)})
    return drawn


def _scheduler(space: SearchSpace) -> TrialScheduler:
    if space.pruner == "none":
        return FIFOScheduler()
    dimension = space.space.get("optim.epochs")
    most = max(dimension.extremes()) if dimension else space.resolve({}, seed=0).optim.epochs
    longest = int(most) * len(space.seeds) + 1  # the last report says that the trial is finished
    grace = max(1, longest // 9)
    if space.pruner == "median":  # a trial ends where its best so far is below the median of the others' running means
        never = math.inf  # or it would pause trials, and one without a checkpoint would begin again
        return MedianStoppingRule(time_attr="training_iteration", grace_period=grace, min_time_slice=never)
    return ASHAScheduler(max_t=longest, grace_period=grace, reduction_factor=3)


def _bundle(resources: TrialResources) -> dict[str, float]:
    gpus = resources.gpus
    if gpus is None:
        share = cluster.num_gpus() * resources.cpus / cluster.num_cpus()
        gpus = min(1.0, max(share, 1 / _MOST_TRIALS_ON_A_GPU)) if share else 0.0
    return {"CPU": resources.cpus, "GPU": gpus} if gpus else {"CPU": resources.cpus}


def _coordinator() -> dict[str, float]:
    """What a trial itself takes whose workers are Ray Train's: next to nothing, and no share of a core of theirs."""
    return {"CPU": 0, "memory": 64 * 2**20}


def _most_at_a_time(resources: TrialResources, asked: int | None) -> Callable[[], float]:
    """How many trials may be under way, asked before each proposal."""
    if asked is not None:
        return lambda: asked
    return (lambda: _num_nested(resources)) if resources.workers > 1 else (lambda: math.inf)


def _num_nested(resources: TrialResources) -> int:
    """Trials of several workers that the cluster holds now. More would hold their place and wait for each other."""
    worker = {"CPU": resources.cpus} | ({"GPU": 1.0} if cluster.num_gpus() else {})
    return max(1, _num_slots(worker) // resources.workers)


def _ahead(resources: TrialResources) -> int:
    """How many trials may wait, on the cluster as it is now and as it may become."""
    bundle = _bundle(resources)
    now = _num_slots(bundle)
    return proposals_ahead(now, _num_slots(bundle, cluster.full_size()) - now)


def _num_slots(bundle: Mapping[str, float], there: Mapping[str, float] | None = None) -> int:
    """How many times the cluster holds this now, or `there` does; at least once."""
    there = ray.cluster_resources() if there is None else there
    fits = [math.floor(float(there.get(name, 0)) / share + 1e-6) for name, share in bundle.items() if share]
    return max(1, min(fits))


def _device() -> str:
    return "cuda" if ray.cluster_resources().get("GPU", 0) else "cpu"


def _trial_name(trial: Trial) -> str:
    return f"{trial.config['number']:05d}"


@contextlib.contextmanager
def _quiet(ahead: int) -> Iterator[None]:
    """Silence Tune's own tables, files and signals; what happens to trials comes through the recorder."""
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.air")]
    levels = [logger.level for logger in loggers]
    before = {name: os.environ.get(name) for name in (*_ENVIRONMENT, _AHEAD)}
    os.environ.update(_ENVIRONMENT | {_AHEAD: str(ahead)})
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(switch_s)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
