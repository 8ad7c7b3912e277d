"""Encode a catalog into the feature store on Ray Data: chunks stream through decoding tasks and a pool of encoders."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path

from affectgrid.analysis.capacity.conditions import Conditions
from affectgrid.data.catalog import Catalog
from affectgrid.data.features.quarantine import WHOLE, Quarantine
from affectgrid.data.features.report import EncodePlan, EncodeReport, Quarantined, StreamPlan
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.timings import keep_timings, read_timings
from affectgrid.distributed import cluster
from affectgrid.distributed.encode.calibration import calibrate
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.decoding import StreamJob
from affectgrid.distributed.encode.encoding import EncodeChunks
from affectgrid.distributed.encode.executor import Executor
from affectgrid.distributed.encode.failures import Failures
from affectgrid.distributed.encode.inventory import Survey, survey
from affectgrid.distributed.encode.loading import stream_jobs
from affectgrid.distributed.encode.plan import (
    Placement,
    Plan,
    expected_time,
    num_units,
    plan_track,
    worth_calibrating,
)
from affectgrid.distributed.encode.sandbox import Limits
from affectgrid.encoders.runtime.precision import Resolved

log = logging.getLogger(__name__)


def encode(
    catalog: Catalog,
    store_root: Path | str,
    config: EncodeConfig,
    *,
    show_plan: Callable[[EncodePlan], None] | None = None,
) -> EncodeReport:
    """Encode what the store lacks, on Ray (`cluster.connect`) or, not connected, in this process: for a few videos.

    A finished track has one file per stream; a killed run leaves finished chunks as parts, and the next run resumes
    from them. A track whose files have changed is encoded again; one in quarantine is not, until they do. `show_plan`
    is called before the work. Raises StoreError when the store cannot be written, MediaError with
    ``on_error="stop"``, ModelError when an encoder cannot be loaded or encoders keep dying.
    """
    started = time.monotonic()
    store = FeatureStore(store_root)
    store.require_writable()
    work = _prepare(catalog, store, config, dry=False)
    if show_plan and work.plan.todo:
        show_plan(_summary(work, config, calibrated=worth_calibrating(work.plan.units)))
    work.survey.settle(store, work.fingerprints)
    for kind, job in work.jobs.items():
        store.write_spec(kind, job.fingerprint, job.spec)
    executor = Executor(work.plan, work.jobs, store, config, work.limits, work.failures.add)
    encoded, frames = executor.run()
    keep_timings(store, executor.timings)
    for kind, fingerprint in work.fingerprints.items():
        store.sweep(kind, fingerprint)
    work.failures.release(work.survey.sources)
    return EncodeReport(
        fingerprints=work.fingerprints,
        models={kind: job.stream.model for kind, job in work.jobs.items()},
        tracks=len(catalog.tracks),
        skipped=len(work.survey.done),
        encoded=encoded,
        frames=frames,
        seconds=time.monotonic() - started,
        quarantined=tuple(work.failures.found.values()),
        costs={timing.stream: timing.cost for timing in executor.timings if timing.units},
    )


def plan_encode(
    catalog: Catalog, store_root: Path | str, config: EncodeConfig, *, calibrated: bool = True
) -> tuple[EncodePlan, list[Quarantined]]:
    """What `encode` would do, and which tracks it would leave out; the store is only read. Needs a Ray connection.

    Without `calibrated` there is no estimate of the time: measuring it takes some seconds.
    """
    work = _prepare(catalog, FeatureStore(store_root), config, dry=True)
    return _summary(work, config, calibrated=calibrated), list(work.failures.found.values())


@dataclasses.dataclass(frozen=True)
class _Work:
    """What a run knows before it begins."""

    store: FeatureStore
    jobs: dict[str, StreamJob]
    limits: Limits
    failures: Failures
    survey: Survey
    plan: Plan

    @property
    def fingerprints(self) -> dict[str, str]:
        return {kind: job.fingerprint for kind, job in self.jobs.items()}

    def model_of(self, stream: str) -> str | None:
        return self.jobs[stream].stream.model if stream in self.jobs else None


def _prepare(catalog: Catalog, store: FeatureStore, config: EncodeConfig, *, dry: bool) -> _Work:
    """Choose the encoders' precision, compare the files with the store, and cut what is missing into chunks."""
    for note in catalog.notes:
        log.warning("%s", note)
    limits, quarantine = config.limits, Quarantine(store)
    half: Resolved | None = "bf16" if cluster.num_gpus() else None
    jobs = stream_jobs(config.visual, config.audio, catalog.tracks, limits, store, half=half, dry=dry)
    fingerprints = {kind: job.fingerprint for kind, job in jobs.items()}
    failures = Failures(catalog, config, quarantine, fingerprints, dry=dry)
    found = survey(
        catalog,
        store,
        fingerprints,
        quarantine,
        limits,
        by_labels={"visual"} if config.visual.frames == "labelled" else set(),
        retry=config.retry_quarantined,
        failed=failures.add,
    )
    failures.recall(found.held)
    keys = {(track.id, kind): track for track, kind in found.todo}
    tracks = {
        key: plan_track(track, key[1], found.sources[key], found.parts.get(key, {}), config)
        for key, track in keys.items()
    }
    return _Work(store, jobs, limits, failures, found, Plan(tracks))


def _summary(work: _Work, config: EncodeConfig, *, calibrated: bool) -> EncodePlan:
    """What there is to do, and with `calibrated` how long it takes."""
    cpus, gpus, todo = cluster.num_cpus(), cluster.num_gpus(), work.plan.todo
    streams = tuple(_tally(work, kind, config) for kind in work.jobs)
    plan = EncodePlan(streams, len(work.survey.stale), None, cpus, gpus)
    if not (calibrated and todo):
        return plan
    encoder = functools.partial(EncodeChunks, jobs=work.jobs, batch_size=config.batch_size)
    costs = calibrate(todo, work.jobs, work.limits, encoder, num_gpus=gpus)
    if not costs:
        return plan
    placement = Placement.of(config, len(todo), cpus=cpus, gpus=gpus)
    usual = Conditions()
    before = [timing for timing in read_timings(work.store) if timing.model == work.model_of(timing.stream)]
    start_s = max((timing.start_s for timing in before if timing.start_s is not None), default=usual.worker_start_s)
    request_s = 0.0 if work.store.storage.is_local else usual.store_request_s
    stage = expected_time(streams, costs, placement, start_s=start_s, request_s=request_s)
    return dataclasses.replace(plan, seconds=stage.wall_s, costs=costs, resources=stage.resources, waits=stage.waits)


def _tally(work: _Work, kind: str, config: EncodeConfig) -> StreamPlan:
    sources = work.survey.sources
    done = {track: num_units(kind, sources[track, kind], config) for track, own in work.survey.done if own == kind}
    held = {track for track, stream in work.failures.found if stream in {kind, WHOLE}}
    return work.plan.tally(kind, done, held, work.jobs[kind].dim)
