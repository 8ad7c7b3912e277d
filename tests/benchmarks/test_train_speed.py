"""Feeding, precision, parts of the step, and workers: training against baselines and limits. See docs/benchmarks.md."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from affectgrid.data.splits.resident import Split
from affectgrid.distributed.train.run import train
from affectgrid.training.batches import Batch, Resident, shuffled_batches
from affectgrid.training.build import build_model
from affectgrid.training.config import TrainConfig
from affectgrid.training.data import PreparedData
from affectgrid.training.loop import fit
from affectgrid.windows import WindowIndex
from benchmarks import training_script
from benchmarks.corpora import SMALL, few, prepared
from benchmarks.timing import alternate, epoch_seconds


@pytest.fixture(scope="module")
def data() -> PreparedData:
    """Forty thousand frames in memory."""
    return prepared(SMALL)


def config_of(**sections: dict[str, object]) -> TrainConfig:
    return TrainConfig.model_validate(sections)


@pytest.mark.parametrize("mode", ["resident", "mapped"])
def test_train_feed(say, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Epochs of `fit` that gather their batches, over the same epochs with every batch already in memory."""
    data = prepared(SMALL, mode)
    config = config_of(optim={"epochs": 3})
    gather, memory = Resident.gather, {}

    def remembered(self: Resident, index: WindowIndex, windows: Tensor, counted: Tensor | None = None) -> Batch:
        key = (id(self.split), tuple(windows.tolist()), counted is None)
        if key not in memory:
            memory[key] = gather(self, index, windows, counted)
        return memory[key]

    def run(method: Callable[..., Batch]) -> float:
        monkeypatch.setattr(Resident, "gather", method)
        return epoch_seconds(config, data, data.train, few(data.validation, 1))

    fed, limit = alternate([lambda: run(gather), lambda: run(remembered)], 5)
    count = len(windows_of(data.train, config))
    figures = f"{count / fed:.1f} over {count / limit:.1f} windows/s, {mode}"
    say("train_feed", limit / fed, figures, ">= 0.98")


def windows_of(split: Split, config: TrainConfig) -> WindowIndex:
    index = WindowIndex.over(split.offsets.tolist(), config.window.length, config.window.stride)
    return Resident(split).with_labels(index)


@pytest.mark.parametrize("hidden_dim", [64, 256])
def test_train_bf16(say, data: PreparedData, hidden_dim: int) -> None:
    """Epochs in bfloat16 over epochs in float32, and the validation P of three seeds of each."""
    model, validation = {"hidden_dim": hidden_dim}, few(data.validation, 1)

    def epoch(precision: str) -> float:
        config = config_of(model=model, optim={"epochs": 2, "precision": precision})
        return epoch_seconds(config, data, data.train, validation)

    half, full = alternate([lambda: epoch("bf16"), lambda: epoch("fp32")], 3)
    scores = ""
    if hidden_dim == 64:
        p = {
            precision: [
                fit(
                    config_of(seed=seed, optim={"epochs": 4, "precision": precision}),
                    data.train,
                    data.validation,
                    data.prompts_for(TrainConfig()),
                ).best["val/p"]
                for seed in range(3)
            ]
            for precision in ("bf16", "fp32")
        }
        scores = "; P " + " over ".join(f"{np.mean(v):.3f} +- {np.std(v, ddof=1):.3f}" for v in p.values())
        assert abs(np.mean(p["bf16"]) - np.mean(p["fp32"])) < 0.1
    say("train_bf16", full / half, f"width {hidden_dim}, {full:.2f} over {half:.2f} s an epoch{scores}", ">= 1.4")


class Trivial(nn.Module):
    """Hardly any work: it reads every feature once."""

    def __init__(self, visual_dim: int, audio_dim: int) -> None:
        super().__init__()
        self.visual, self.audio = nn.Linear(visual_dim, 2), nn.Linear(audio_dim, 2)

    def forward(self, visual: Tensor, audio: Tensor) -> Tensor:
        return self.visual(visual.float().mean(1)) + self.audio(audio.float().mean(1))


def fed_here(split: Split, config: TrainConfig, epoch: int) -> Iterator[Batch]:
    """The product's batches of an epoch."""
    resident, index = Resident(split), windows_of(split, config)
    for windows, counted in shuffled_batches(len(index), batch_size=16, seed=0, epoch=epoch):
        yield resident.gather(index, windows, counted)


def fed_by_loader(source: torch.utils.data.DataLoader) -> Iterator[Batch]:
    """The script's batches of an epoch."""
    yield from map(training_script.as_batch, source)


def rate_hz(batches: Iterator[Batch], step: Callable[[Batch], None], num_batches: int) -> float:
    """Windows a second, from the first batch on: a loader's workers start up before it."""
    first = next(batches)
    started, count = time.perf_counter(), 0
    for batch in itertools.chain([first], itertools.islice(batches, num_batches - 1)):
        step(batch)
        count += len(batch.va)
    return count / (time.perf_counter() - started)


@pytest.mark.parametrize("kind", ["trivial", "real"])
def test_train_vs_dataloader(say, data: PreparedData, tmp_path: Path, kind: str) -> None:
    """Windows a second, fed by index from memory, over the usual script's DataLoader with two workers."""
    torch.set_num_threads(1)
    config = TrainConfig()
    dims = data.train.dims
    trivial = Trivial(dims["visual"], dims["audio"])
    model = build_model(config, prompts=data.prompts_for(config), dims=dims).train()
    optimizer = torch.optim.AdamW((trivial if kind == "trivial" else model).parameters(), fused=True)

    def step(batch: Batch) -> None:
        if kind == "trivial":
            loss = (trivial(batch.streams["visual"][0], batch.streams["audio"][0]) - batch.va.mean(1)).square().mean()
        else:
            output = model(batch.streams, batch.frame_mask)
            loss = (output.va - batch.va)[batch.labelled].square().mean() + output.region_logits.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    training_script.write_videos(data.train, tmp_path / "videos")
    source = training_script.loader(tmp_path / "videos", config.window.length, config.window.stride, 16)
    sizes = len(source)
    epochs = itertools.count()
    ours, theirs = alternate(
        [
            lambda: rate_hz(fed_here(data.train, config, next(epochs)), step, sizes),
            lambda: rate_hz(fed_by_loader(source), step, sizes),
        ],
        7,
    )
    goal = ">= 3" if kind == "trivial" else ">= 1"
    say("train_vs_dataloader", ours / theirs, f"{kind} model, {ours:.1f} over {theirs:.1f} windows/s", goal)


@pytest.mark.usefixtures("ray_cluster")
def test_train_workers(say, data: PreparedData, tmp_path: Path) -> None:
    """Epochs on two Ray Train workers of one thread over epochs on one, with the same global batch."""
    config = config_of(optim={"epochs": 4})
    small = dataclasses.replace(data, validation=few(data.validation, 1))
    times, scores = [], []
    for count in (1, 2):
        log = tmp_path / f"{count}.txt"

        def note(metrics: dict[str, float], log: Path = log) -> None:  # a closure: it travels by value
            with log.open("a") as file:
                file.write(f"{__import__('time').time()}\n")

        result = train(config, small, storage=tmp_path, name=f"w{count}", num_workers=count, on_epoch=note)
        ends = [float(line) for line in log.read_text().split()]
        times.append(statistics.median(after - before for before, after in itertools.pairwise(ends)))
        scores.append(result.history[0]["train/loss"])
    assert scores[0] == pytest.approx(scores[1], rel=0.05)  # dropout draws differ
    say("train_workers", times[0] / times[1], f"{times[0]:.2f} over {times[1]:.2f} s an epoch", "told, not set")
