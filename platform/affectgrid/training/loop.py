"""One training run, in one process or in several that see one batch together."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from affectgrid.data.resident import Split
from affectgrid.errors import Problem, TrainingError
from affectgrid.losses import objective
from affectgrid.metrics import CccAccumulator
from affectgrid.model.fusion import FusionModel
from affectgrid.training.assemble import build_model
from affectgrid.training.batches import Batch, Resident, seed_of, shuffled_batches
from affectgrid.training.checkpoint import Save, TrainingState, save_checkpoint
from affectgrid.training.config import TrainConfig
from affectgrid.training.inference import predict_tracks
from affectgrid.training.labels import RegionLabels, learned_widths
from affectgrid.training.prompts import EncodedPrompts
from affectgrid.training.schedule import rate_factor
from affectgrid.training.workers import SINGLE, Workers
from affectgrid.windows import WindowIndex

Metrics = dict[str, float]
_LOSS_NAMES = ("train/loss", "train/loss_ccc", "train/loss_mse", "train/loss_prompt")  # as ObjectiveTerms has them
Report = Callable[[Metrics, Save], None]


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What a run leaves.

    Args:
        model: with the weights of the best epoch, in evaluation mode.
        history: the metrics of every epoch.
        best: the metrics of the epoch with the highest ``val/p``; the earliest of equals.
    """

    model: FusionModel
    history: tuple[Metrics, ...]
    best: Metrics


def _silent(metrics: Metrics, save: Save) -> None:
    pass


def fit(
    config: TrainConfig,
    train: Split,
    validation: Split,
    prompts: EncodedPrompts,
    *,
    report: Report = _silent,
    resume: TrainingState | None = None,
    workers: Workers = SINGLE,
    device: torch.device | str = "cpu",
) -> FitResult:
    """Train, and keep the weights of the epoch that scores best on the validation split.

    After each epoch every worker calls `report` with the epoch's metrics and a function that saves a checkpoint as
    the folder that it is given; what `report` raises ends the run. With `resume` the run goes on exactly as it would
    have: the order of windows and the random numbers of an epoch follow from seed and epoch. Torch's global random
    state is left as it was.

    Raises TrainingError: TRAIN-LABELS where nothing is labelled, TRAIN-CHANGED where `resume` is of another run,
    TRAIN-NAN where the loss or a prediction stops being a number.
    """
    run = _Run(config, train, validation, prompts, workers, torch.device(device))
    if resume is not None:
        run.restore(resume)
    with torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []):
        while run.epoch < config.optim.epochs:
            metrics = run.train_epoch() | run.validate()
            report(run.finish_epoch(metrics), run.save)
    return run.result()


def run_identity(config: TrainConfig, train: Split, validation: Split, prompts: EncodedPrompts) -> str:
    """Changes with everything that a run's weights depend on: configuration, prompts, tracks, labels and encoders."""
    facts = [config.model_dump_json(), prompts.name, prompts.grid.centres]
    facts += [[split.name, list(split.track_ids), sorted(split.encoders.items())] for split in (train, validation)]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for split in (train, validation):
        for array in (split.offsets, split.va, split.labelled):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def best_epoch(history: Sequence[Metrics]) -> Metrics:
    """The metrics of the epoch whose weights a run keeps: the highest ``val/p``, the earliest of equals."""
    return max(history, key=lambda past: past["val/p"])


class _Run:
    """A run between two epochs."""

    def __init__(
        self,
        config: TrainConfig,
        train: Split,
        validation: Split,
        prompts: EncodedPrompts,
        workers: Workers,
        device: torch.device,
    ) -> None:
        self.config, self.workers, self.device = config, workers, device
        self.identity = run_identity(config, train, validation, prompts)
        self.train, self.validation = Resident(train, device), Resident(validation, device)
        _require_labels(train, validation)
        window = config.window
        self.windows = self.train.with_labels(WindowIndex.over(train.offsets.tolist(), window.length, window.stride))
        self.bounds = _share(torch.as_tensor(validation.offsets), workers)
        sizes = {"visual_dim": train.visual.shape[1], "audio_dim": train.audio.shape[1]}
        self.model = build_model(config, prompts=prompts, **sizes).to(device)
        self.model.standardise(self.train.statistics())
        self.wrapped = workers.wrap(self.model)
        self.optimizer = _adamw(self.model, config)
        self.labels = RegionLabels(config.prompt, prompts.grid, device)
        self.history: list[Metrics] = []
        self.best_weights: dict[str, Tensor] = {}

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.history)

    def train_epoch(self) -> Metrics:
        """One pass over the windows. The loss stays on the device until the end, so that no step waits for it."""
        optim, workers = self.config.optim, self.workers
        torch.manual_seed(seed_of("epoch", self.config.seed, self.epoch, workers.rank))
        self.wrapped.train()
        batches = shuffled_batches(
            len(self.windows),
            batch_size=optim.batch_size,
            seed=self.config.seed,
            epoch=self.epoch,
            rank=workers.rank,
            num_workers=workers.count,
        )
        num_batches = math.ceil(len(self.windows) / optim.batch_size)
        terms: list[Tensor] = []
        for step, (numbers, counted) in enumerate(batches, self.epoch * num_batches):
            factor = rate_factor(step, optim.epochs * num_batches, warmup_share=optim.warmup_share)
            for group in self.optimizer.param_groups:
                group["lr"] = factor * optim.lr
            terms.append(self._step(self.train.gather(self.windows, numbers, counted)))
        averages = self._averages(torch.stack(terms).cpu()) | {"lr": self.optimizer.param_groups[0]["lr"]}
        return averages | learned_widths(self.model)

    def _step(self, batch: Batch) -> Tensor:
        output = self.wrapped(batch.visual, batch.visual_present, batch.audio, batch.audio_present, batch.frame_mask)
        soft = None if output.region_logits is None else self.labels(batch.va, output.sigma)
        terms = objective(
            output,
            batch.va,
            batch.labelled,
            soft,
            mse_weight=self.config.loss.mse_weight,
            prompt_weight=self.config.prompt.weight,
            learned_labels=output.sigma is not None,
            sum_over_workers=self.workers.sum,
        )
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(terms.total)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optim.clip_norm)
        self.optimizer.step()
        return torch.stack(terms).detach()

    def _averages(self, terms: Tensor) -> Metrics:
        finite = torch.isfinite(terms).all(1)
        if not finite.all():
            step = int(finite.logical_not().nonzero()[0]) + 1
            raise self._diverged(f"the loss of step {step} of {len(terms)} is {float(terms[step - 1, 0])}")
        return dict(zip(_LOSS_NAMES, terms.mean(0).tolist(), strict=True))

    def validate(self) -> Metrics:
        """CCC over the concatenation of all labelled frames; each worker predicts some tracks and all hear the sum."""
        va = predict_tracks(self.model, self.validation, self.bounds, self.config.window)
        rows = slice(int(self.bounds[0]), int(self.bounds[-1]))
        mine = CccAccumulator()
        mine.update(va, self.validation.va[rows], self.validation.labelled[rows])
        state = torch.stack([part.cpu() for part in self.workers.gather(mine.state())]).sum(0)
        if not torch.isfinite(state).all():
            raise self._diverged("a validation prediction is no number")
        valence, arousal = CccAccumulator.from_state(state).compute().tolist()
        return {"val/ccc_valence": valence, "val/ccc_arousal": arousal, "val/p": (valence + arousal) / 2}

    def finish_epoch(self, metrics: Metrics) -> Metrics:
        """Count the epoch, and keep its weights if they are the best so far."""
        best = max((past["val/p"] for past in self.history), default=-math.inf)
        if metrics["val/p"] > best:
            self.best_weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.history.append(metrics | {"val/p_best": max(best, metrics["val/p"]), "epoch": self.epoch + 1})
        return self.history[-1]

    def save(self, folder: Path) -> Path:
        """Write a checkpoint as `folder`."""
        state = TrainingState(
            identity=self.identity,
            epoch=self.epoch,
            weights=self.model.state_dict(),
            best_weights=self.best_weights,
            optimizer=self.optimizer.state_dict(),
            history=self.history,
        )
        return save_checkpoint(state, folder)

    def restore(self, state: TrainingState) -> None:
        """Go back to a checkpoint."""
        if state.identity != self.identity:
            raise TrainingError(
                Problem(
                    "TRAIN-CHANGED",
                    "resume",
                    f"a checkpoint of run {state.identity}, but configuration and data make run {self.identity}",
                    "the configuration, prompts and data that the run began with",
                    "use another name, or restore what changed",
                )
            )
        self.model.load_state_dict(state.weights)
        self.optimizer.load_state_dict(state.optimizer)
        self.best_weights = {name: value.to(self.device) for name, value in state.best_weights.items()}
        self.history = list(state.history)

    def result(self) -> FitResult:
        """The best epoch's model."""
        self.model.load_state_dict(self.best_weights)
        return FitResult(self.model.eval(), tuple(self.history), best_epoch(self.history))

    def _diverged(self, found: str) -> TrainingError:
        mend = (
            f"lower optim.lr ({self.config.optim.lr:g}) or optim.clip_norm, or look for infinite features with validate"
        )
        return TrainingError(Problem("TRAIN-NAN", f"epoch {self.epoch + 1}", found, "a finite number", mend))


def _adamw(model: torch.nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices alone, as is usual: a bias, a norm or a temperature has no reason to shrink."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.optim.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.optim.lr, fused=True)


def _share(offsets: Tensor, workers: Workers) -> Tensor:
    """The bounds of this worker's consecutive tracks."""
    num_tracks = len(offsets) - 1
    first, last = (num_tracks * part // workers.count for part in (workers.rank, workers.rank + 1))
    return offsets[first : last + 1]


def _require_labels(*splits: Split) -> None:
    for split in splits:
        if not split.labelled.any():
            found = f"no labelled frame in {split.num_tracks} track(s)"
            mend = "look at the annotations with validate; -5 marks a frame as not labelled"
            raise TrainingError(Problem("TRAIN-LABELS", f"split {split.name}", found, "at least one", mend))
