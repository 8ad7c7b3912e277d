"""A whole plan: the machines of each kind, the time of each stage, storage, and what it costs."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

from affectgrid.analysis.capacity.encoding import Layout, estimate_encoding, quick_s
from affectgrid.analysis.capacity.machines import SPOT_SHARE, Fleet, divisions, find_machine
from affectgrid.analysis.capacity.options import PlanOptions
from affectgrid.analysis.capacity.search import SearchWork, estimate_search, quick_search_s
from affectgrid.analysis.capacity.stage import Stage
from affectgrid.analysis.capacity.times import Times, find_times
from affectgrid.analysis.capacity.workload import VIDEO_BYTES_PER_HOUR, Workload, stream_work
from affectgrid.data.features.report import row_bytes
from affectgrid.data.features.timings import Device, Timing
from affectgrid.errors import ConfigError, Problem

USD_PER_GB_MONTH = 0.023
PICTURE_BYTES, HOP_BYTES = 3 * 224**2, 0.2 * 16_000 * 4  # decoded, as they travel
TRAIN_SHARE = 1.68 / 2.06  # of the labelled frames, as in Aff-Wild2
STRIDE, VALIDATION_FRAMES_S, LOAD_FRAMES_S, PRUNED, WARM_UP = 200, 42_000, 29_000, 0.531, 10
_AS_FAST, _NEARLY = 0.02, 0.05
RECORD_BYTES, DRIVER_CHUNK_BYTES = 0.93e6, 480


@dataclasses.dataclass(frozen=True)
class Planned:
    """One stage on spot machines, and on machines that stay."""

    spot: Stage
    on_demand: Stage
    runs: int = 1

    @property
    def usd(self) -> tuple[float, float] | None:
        """From spot machines at a third of the list price to the list price. None where a price is not known."""
        ends = self.spot.usd(SPOT_SHARE), self.on_demand.usd()
        if ends[0] is None or ends[1] is None:
            return None
        low, high = sorted((self.runs * ends[0], self.runs * ends[1]))
        return low, high


@dataclasses.dataclass(frozen=True)
class CapacityPlan:
    """What a corpus and a search need.

    Args:
        options: what was asked.
        work: of all runs together.
        fleet: of all runs together.
        enough: with which it takes at most a twentieth longer; smaller where machines wait for something else.
        encode: one of the runs, which are alike.
        search, search_work: None without trials.
        times: of each stream, with their sources.
        storage_bytes: by what is stored.
        node_bytes: features that each machine of the search keeps on its own disk.
        driver_bytes: memory that one run's driver needs for its list of chunks, at least.
    """

    options: PlanOptions
    work: Workload
    fleet: Fleet
    enough: Fleet
    encode: Planned
    search: Planned | None
    search_work: SearchWork | None
    times: dict[str, Times]
    storage_bytes: dict[str, float]
    node_bytes: float
    driver_bytes: float

    @property
    def usd(self) -> tuple[float, float] | None:
        """Of all stages."""
        stages = [self.encode.usd, *([self.search.usd] if self.search else [])]
        known = [usd for usd in stages if usd is not None]
        return (sum(low for low, _ in known), sum(high for _, high in known)) if len(known) == len(stages) else None

    @property
    def usd_per_month(self) -> float:
        """What keeping the results in a bucket costs; the videos are not results."""
        kept = sum(size for name, size in self.storage_bytes.items() if name != VIDEOS)
        return kept / 1e9 * USD_PER_GB_MONTH


VIDEOS = "videos, which are yours"


def make_plan(options: PlanOptions, measured: Sequence[Timing] = ()) -> CapacityPlan:
    """Raises ConfigError: CFG-HOURS, CFG-MACHINE, CFG-NODES, CFG-TIMES."""
    if not 0 < options.hours < math.inf:
        found, hint = f"{options.hours:g}", "count the hours of your videos: jobs/encode.py --dry-run counts frames"
        raise ConfigError(Problem("CFG-HOURS", where="hours", found=found, expected="a number above 0", hint=hint))
    kinds = [find_machine(name) for name in options.machines]
    device: Device = "cuda" if any(machine.gpus for machine in kinds) else "cpu"
    times = {stream: find_times(stream, getattr(options, stream), device, measured) for stream in ("visual", "audio")}
    each = options.nodes // options.runs
    if each < len(kinds):
        found, hint = f"{options.nodes} nodes for {options.runs} runs", "give more nodes, fewer runs or one kind"
        expected = f"at least {len(kinds) * options.runs}: one of each kind in each run"
        raise ConfigError(Problem("CFG-NODES", where="nodes", found=found, expected=expected, hint=hint))
    work = _workload(options, times)
    part = work.share(options.runs)
    todo = _search_work(options) if options.trials else None
    choose = functools.partial(_choose, part, todo, options)
    fleet, taken_s = choose(each)
    enough = fleet
    while enough.nodes >= 2 * len(kinds):
        fewer, fewer_s = choose(enough.nodes // 2)
        if fewer_s > taken_s * (1 + _NEARLY):
            break
        enough = fewer
    whole = fleet.times(options.runs)
    spot, stay = options.conditions, options.conditions.on_demand
    encode = Planned(estimate_encoding(part, fleet, spot), estimate_encoding(part, fleet, stay), options.runs)
    search = None
    if todo:
        search = Planned(estimate_search(todo, whole, spot), estimate_search(todo, whole, stay))
    return CapacityPlan(
        options=options,
        work=work,
        fleet=whole,
        enough=enough.times(options.runs),
        encode=encode,
        search=search,
        search_work=todo,
        times=times,
        storage_bytes=_storage(options, work, search),
        node_bytes=_labelled_frames(options) * 2 * (options.visual.dim + options.audio.dim) if search else 0.0,
        driver_bytes=part.chunks * DRIVER_CHUNK_BYTES,
    )


def _choose(work: Workload, search: SearchWork | None, options: PlanOptions, nodes: int) -> tuple[Fleet, float]:
    """The cheapest of the fleets of one run that take no longer than the fastest, to a fiftieth; and its seconds."""

    def total_s(fleet: Fleet) -> float:
        searched_s = quick_search_s(search, fleet.times(options.runs)) if search else 0.0
        return quick_s(work, fleet, options.conditions, Layout.of(fleet)) + searched_s

    kinds = [find_machine(name) for name in options.machines]
    taken = [(total_s(fleet), fleet) for fleet in divisions(kinds, nodes)]
    limit_s = min(taken_s for taken_s, _ in taken) * (1 + _AS_FAST)
    fast = [(fleet.usd_per_hour or 0.0, taken_s, fleet) for taken_s, fleet in taken if taken_s <= limit_s]
    _, taken_s, fleet = min(fast, key=lambda one: one[:2])
    return fleet, taken_s


def _workload(options: PlanOptions, times: dict[str, Times]) -> Workload:
    length_s = min(options.track_minutes / 60, options.hours) * 3600
    tracks = max(1, round(options.hours * 3600 / length_s))
    frames, hops = math.ceil(length_s * options.frame_rate_hz), math.ceil(length_s / options.hop_s) + 1
    visual = stream_work(
        "visual", frames, tracks, options.chunk_frames, times["visual"].cost,
        row_bytes=row_bytes(options.visual.dim), moved_bytes=PICTURE_BYTES,
    )  # fmt: skip
    audio = stream_work(
        "audio", hops, tracks, options.chunk_hops, times["audio"].cost,
        row_bytes=row_bytes(options.audio.dim), moved_bytes=HOP_BYTES,
    )  # fmt: skip
    return Workload((visual, audio), tracks, options.hours * VIDEO_BYTES_PER_HOUR)


def _labelled_frames(options: PlanOptions) -> float:
    hours = options.hours if options.labelled_hours is None else min(options.labelled_hours, options.hours)
    return hours * 3600 * options.frame_rate_hz


def _search_work(options: PlanOptions) -> SearchWork:
    frames = _labelled_frames(options)
    return SearchWork(
        trials=options.trials,
        epochs=options.epochs,
        train_frames=frames * TRAIN_SHARE,
        validation_frames=frames * (1 - TRAIN_SHARE),
        stride=STRIDE,
        windows_s=options.windows_s,
        validation_frames_s=VALIDATION_FRAMES_S,
        load_frames_s=LOAD_FRAMES_S,
        pruned=PRUNED if options.asha else 0.0,
        warm_up=min(WARM_UP, options.trials) if options.asha else 0,
    )


def _storage(options: PlanOptions, work: Workload, search: Planned | None) -> dict[str, float]:
    stored = {VIDEOS: work.video_bytes, "features": work.feature_bytes}
    if search is None:
        return stored
    model = options.model_mb * 1e6
    at_once = min(options.trials, search.spot.servers)
    return stored | {
        "models and records": options.trials * (model + RECORD_BYTES),
        "checkpoints, while trials run": at_once * 4 * model,  # weights, the best ones, two of the optimizer
    }
