"""Train on the synthetic corpus of Aff-Wild2's size, and tell time and memory."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from affectgrid.data.prompts import load_prompt_set
from affectgrid.data.splits.feed import FeedOptions, feed
from affectgrid.data.splits.mapped import MappedSplit
from affectgrid.data.splits.resident import plan_split
from affectgrid.metrics import Metrics
from affectgrid.synthetic.scale_corpus import ScaleCorpus
from affectgrid.training.batches import Resident
from affectgrid.training.checkpoint import Save, best_epoch
from affectgrid.training.config import TrainConfig
from affectgrid.training.data import EncodedPrompts, PreparedData
from affectgrid.training.inference.predict import predict_split
from affectgrid.training.loop import fit
from affectgrid.windows import WindowIndex


@dataclasses.dataclass(frozen=True)
class ScaleReport:
    """What training on a synthetic corpus took.

    Args:
        num_tracks, num_frames: by split.
        num_windows: of the training split, in one epoch.
        feature_bytes: of both streams and splits, as training reads them.
        feed: resident or mapped.
        load_s: reading the store, or mapping what was read before.
        statistics_s: mean and deviation of every feature, once for all runs on one loaded split.
        epoch_s: of each epoch: its steps and its validation.
        validation_s: of a pass over the validation split.
        base_bytes: resident memory before anything was loaded.
        peak_bytes: largest resident memory of this process from then on; a mapped file counts where it is in memory.
        best: metrics of the best epoch. The relation is planted: they say nothing of people.
    """

    num_tracks: dict[str, int]
    num_frames: dict[str, int]
    num_windows: int
    feature_bytes: int
    feed: str
    load_s: float
    statistics_s: float
    epoch_s: tuple[float, ...]
    validation_s: float
    base_bytes: int
    peak_bytes: int
    best: Metrics

    @property
    def windows_per_s(self) -> float:
        """While training: the median epoch without its validation."""
        return self.num_windows / (statistics.median(self.epoch_s) - self.validation_s)

    @property
    def memory_ratio(self) -> float:
        """Peak memory over the bytes of the features."""
        return self.peak_bytes / self.feature_bytes


def prepare_scale(corpus: ScaleCorpus, config: TrainConfig, options: FeedOptions, folder: Path) -> PreparedData:
    """Splits and prompts of the corpus, as `prepare` makes those of a data set. Mapped files lie under `folder`."""
    prints = {stream: corpus.config.fingerprint(stream) for stream in ("visual", "audio")}
    plans = [
        plan_split(corpus.store, corpus.catalog.split(name), name=name, fingerprints=prints)
        for name in ("train", "validation")
    ]
    train, validation = feed(plans, options, folder)
    prompts = {config.prompt.file: _drawn_prompts(config.prompt.file, corpus.config.visual_dim)}
    return PreparedData(train, validation, prompts, "-".join(["synthetic", *prints.values()]))


def _drawn_prompts(name: str, dim: int) -> EncodedPrompts:
    """The grid and the number of texts of a prompt file; their features are drawn, for no encoder made the frames'."""
    prompts = load_prompt_set(name)
    generator = torch.Generator().manual_seed(0)
    texts = tuple(torch.randn(len(texts), dim, generator=generator) for texts in prompts.texts)
    return EncodedPrompts(prompts.name, prompts.grid, texts)


def run_scale(
    corpus: ScaleCorpus,
    config: TrainConfig,
    options: FeedOptions,
    folder: Path,
    on_epoch: Callable[[Metrics], None] = lambda metrics: None,
) -> ScaleReport:
    """Load, train and validate in this process; `on_epoch` hears the metrics of each epoch."""
    base = _restart_peak()
    started = time.perf_counter()
    data = prepare_scale(corpus, config, options, folder)
    loaded = time.perf_counter()
    Resident(data.train).statistics()  # kept for `fit`
    times = [time.perf_counter()]

    def report(metrics: Metrics, save: Save) -> None:
        times.append(time.perf_counter())
        on_epoch(metrics)

    result = fit(config, data.train, data.validation, data.prompts_for(config), report=report)
    validating = time.perf_counter()
    predict_split(result.model, data.validation, config.window)
    splits = (data.train, data.validation)
    window = config.window
    return ScaleReport(
        num_tracks={split.name: split.num_tracks for split in splits},
        num_frames={split.name: split.num_frames for split in splits},
        num_windows=len(WindowIndex.over(data.train.offsets.tolist(), window.length, window.stride)),
        feature_bytes=sum(split.feature_bytes for split in splits),
        feed="mapped" if isinstance(data.train, MappedSplit) else "resident",
        load_s=loaded - started,
        statistics_s=times[0] - loaded,
        epoch_s=tuple(after - before for before, after in itertools.pairwise(times)),
        validation_s=time.perf_counter() - validating,
        base_bytes=base,
        peak_bytes=max(base, _peak_bytes()),  # the kernel counts both in batches, a few hundred kB apart
        best=best_epoch(result.history),
    )


def _restart_peak() -> int:
    """Begin to watch memory from here, where the system can (Linux); returns what is resident now, in bytes."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return int(psutil.Process().memory_info().rss)


def _peak_bytes() -> int:
    """Largest resident memory since `_restart_peak`; of the whole process where the system cannot tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
