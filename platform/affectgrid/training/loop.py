"""One training run, in one process or in several that share every batch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from affectgrid.data.splits.resident import Split
from affectgrid.errors import Problem, TrainingError
from affectgrid.losses import objective
from affectgrid.metrics import CccAccumulator, Metrics
from affectgrid.model.fusion import FusionModel
from affectgrid.training.batches import Batch, jittered, seed_of, shuffled_batches
from affectgrid.training.build import build_model
from affectgrid.training.checkpoint import (
    Save,
    TrainingState,
    best_epoch,
    kept_epoch,
    random_state,
    save_checkpoint,
    set_random_state,
)
from affectgrid.training.config import TrainConfig
from affectgrid.training.data import EncodedPrompts
from affectgrid.training.inference.predict import predict_tracks, resident_for
from affectgrid.training.labels import RegionLabels, learned_widths, require_labels, training_windows
from affectgrid.training.manifest import run_identity
from affectgrid.training.optim import WeightAverage, adamw, forward_pass, rate_factor, repeatable, warn_if_emulated
from affectgrid.training.workers import SINGLE, Workers
from affectgrid.windows import WindowIndex

__all__ = ["FitResult", "Report", "fit"]
_LOSS_NAMES = ("train/loss", "train/loss_ccc", "train/loss_mse", "train/loss_prompt")  # in the order of ObjectiveTerms
Report = Callable[[Metrics, Save], None]


@dataclasses.dataclass(frozen=True)
class FitResult:
    """The result of a run.

    Args:
        model: with the weights of the best epoch, in evaluation mode.
        history: the metrics of every epoch.
        best: the metrics of the kept epoch: that with the highest ``val/p``, the earliest of equals, or the last.
    """

    model: FusionModel
    history: tuple[Metrics, ...]
    best: Metrics


def _silent(metrics: Metrics, save: Save) -> None:
    pass


def _never() -> bool:
    return False


def fit(
    config: TrainConfig,
    train: Split,
    validation: Split,
    prompts: EncodedPrompts,
    *,
    report: Report = _silent,
    pause: Callable[[], bool] = _never,
    resume: TrainingState | None = None,
    workers: Workers = SINGLE,
    device: torch.device | str = "cpu",
) -> FitResult:
    """Train, and keep the weights of the epoch that scores best on the validation split, or as ``optim.keep`` says.

    After each epoch every worker calls `report` with the epoch's metrics and a function that saves a checkpoint as
    the folder that it is given; what `report` raises ends the run. `pause` is asked after every step within an epoch,
    on every worker, and must give all of them the same answer; where it is true, `report` is called with the number of
    finished epochs and of the running one's finished steps, ``epoch`` and ``step``, and training continues.

    With `resume` the run continues exactly as it would have: the order of windows follows from seed and epoch, the
    random numbers from those or, in the middle of an epoch, from the checkpoint (unless the number of workers changed).
    Torch's global random state is left as it was. Raises TrainingError: TRAIN-LABELS where nothing is labelled,
    TRAIN-CHANGED where `resume` is of another run, TRAIN-NAN where the loss or a prediction is not finite.
    """
    run = _Run(config, train, validation, prompts, workers, torch.device(device))
    if resume is not None:
        run.restore(resume)

    def between_steps() -> None:
        if pause():
            run.remember_random_state()
            report({"epoch": run.epoch, "step": len(run.terms)}, run.save)

    with repeatable(run.device):
        while not run.done:
            metrics = run.train_epoch(between_steps) | run.validate()
            report(run.finish_epoch(metrics), run.save)
    return run.result()


class _Run:
    """The state of a run; in the middle of an epoch, `terms` holds the losses of its finished steps."""

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
        window = config.window
        self.train, self.validation = (
            resident_for(config.model, window, split, device) for split in (train, validation)
        )
        require_labels(train, validation)
        self.windows, self.chances = training_windows(self.train, config, prompts.grid)
        self.bounds = workers.share(torch.as_tensor(validation.offsets))
        self.model = build_model(config, dims=train.dims, prompts=prompts).to(device)
        self.model.standardise(self.train.statistics())
        self.wrapped = workers.wrap(self.model)
        self.optimizer = adamw(self.model, config.optim)
        self.average = WeightAverage(self.model, config.optim.ema_decay) if config.optim.ema_decay else None
        warn_if_emulated(config.optim.precision, device)
        self.labels = RegionLabels(config.prompt, prompts.grid, device)
        self.history: list[Metrics] = []
        self.best_weights: dict[str, Tensor] = {}
        self.terms: list[Tensor] = []
        self.random: Tensor | None = None  # of every worker, in the middle of an epoch

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def done(self) -> bool:
        """Whether all epochs are done, or `patience` has run out. All workers have the same history."""
        patience = self.config.optim.patience
        waited = self.epoch - best_epoch(self.history)["epoch"] if self.history else 0
        return self.epoch >= self.config.optim.epochs or 0 < patience <= waited

    @property
    def kept(self) -> FusionModel:
        """The model that is validated and saved."""
        return self.model if self.average is None else self.average.model

    def train_epoch(self, between_steps: Callable[[], None]) -> Metrics:
        """One pass over the windows. The loss stays on the device until the end, so that no step waits for it."""
        optim, workers = self.config.optim, self.workers
        self._seed()
        self.wrapped.train()
        all_windows = self._windows_of_epoch()
        batches = shuffled_batches(
            len(all_windows),
            batch_size=optim.batch_size,
            seed=self.config.seed,
            epoch=self.epoch,
            rank=workers.rank,
            num_workers=workers.count,
            chances=self.chances,
        )
        num_batches = math.ceil(len(self.windows) / optim.batch_size)
        num_steps = optim.epochs * num_batches
        for number, (windows, counted) in enumerate(batches):
            if number < len(self.terms):
                continue  # done before the checkpoint that this run resumed from
            step = self.epoch * num_batches + number
            factor = rate_factor(step, num_steps, warmup_share=optim.warmup_share, schedule=optim.schedule)
            for group in self.optimizer.param_groups:
                group["lr"] = factor * optim.lr
            self.terms.append(self._step(self.train.gather(all_windows, windows, counted)))
            if self.average is not None:
                self.average.update(self.model, step)
            if number + 1 < num_batches:
                between_steps()
        averages = self._averages(torch.stack(self.terms).cpu()) | {"lr": self.optimizer.param_groups[0]["lr"]}
        return averages | learned_widths(self.model)

    def _windows_of_epoch(self) -> WindowIndex:
        window = self.config.window
        if not window.random_offsets:
            return self.windows
        seed = seed_of("offsets", self.config.seed, self.epoch)
        return jittered(self.windows, self.train.offsets, window.stride // 2, seed)

    def _seed(self) -> None:
        """Seed the epoch's random numbers, or restore those of a checkpoint in the middle of an epoch."""
        if self.random is not None and len(self.random) == self.workers.count:
            set_random_state(self.random[self.workers.rank], self.device)
        else:
            middle = (len(self.terms),) if self.terms else ()
            torch.manual_seed(seed_of("epoch", self.config.seed, self.epoch, self.workers.rank, *middle))
        self.random = None

    def remember_random_state(self) -> None:
        """Gather the random states of all workers for a checkpoint in the middle of an epoch. All workers must call."""
        states = self.workers.gather(random_state(self.device))
        self.random = torch.stack([state.cpu() for state in states])

    def _step(self, batch: Batch) -> Tensor:
        with forward_pass(self.config.optim.precision, self.device):
            output = self.wrapped(batch.streams, batch.frame_mask)
        soft = None if output.region_logits is None else self.labels(batch.va, output.sigma)
        terms = objective(
            output,
            batch.va,
            batch.labelled,
            soft,
            mse_weight=self.config.loss.mse_weight,
            prompt_weight=self.config.prompt.weight,
            learned_labels=output.sigma is not None,
            ccc_weight=self.config.loss.ccc_weight,
            va_weights=self.config.loss.va_weights,
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
        """CCC over the concatenation of all labelled frames; each worker predicts some tracks, and all get the sum."""
        va = predict_tracks(self.kept, self.validation, self.bounds, self.config.window)
        rows, split = slice(int(self.bounds[0]), int(self.bounds[-1])), self.validation.split
        mine = CccAccumulator()
        mine.update(va, *(torch.as_tensor(own[rows]).to(self.device) for own in (split.va, split.labelled)))
        state = torch.stack([part.cpu() for part in self.workers.gather(mine.state())]).sum(0)
        if not torch.isfinite(state).all():
            raise self._diverged("a validation prediction is not finite")
        valence, arousal = CccAccumulator.from_state(state).compute().tolist()
        return {"val/ccc_valence": valence, "val/ccc_arousal": arousal, "val/p": (valence + arousal) / 2}

    def finish_epoch(self, metrics: Metrics) -> Metrics:
        """Count the epoch, and keep its weights if they are the best so far."""
        last = self.config.optim.keep == "last"
        best = -math.inf if last else max((past["val/p"] for past in self.history), default=-math.inf)
        if metrics["val/p"] > best:
            self.best_weights = {name: value.detach().clone() for name, value in self.kept.state_dict().items()}
        self.history.append(metrics | {"val/p_best": max(best, metrics["val/p"]), "epoch": self.epoch + 1})
        self.terms, self.random = [], None
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
            average=None if self.average is None else self.average.model.state_dict(),
            terms=torch.stack(self.terms).cpu() if self.terms else None,
            random=self.random,
        )
        return save_checkpoint(state, folder)

    def restore(self, state: TrainingState) -> None:
        """Restore a checkpoint."""
        state.require(self.identity)
        self.model.load_state_dict(state.weights)
        self.optimizer.load_state_dict(state.optimizer)
        self.best_weights = {name: value.to(self.device) for name, value in state.best_weights.items()}
        self.history = list(state.history)
        if self.average is not None and state.average is not None:
            self.average.model.load_state_dict(state.average)
        self.terms = [] if state.terms is None else list(state.terms.to(self.device))
        self.random = state.random

    def result(self) -> FitResult:
        """The best epoch's model."""
        self.model.load_state_dict(self.best_weights)
        return FitResult(self.model.eval(), tuple(self.history), kept_epoch(self.history, self.config))

    def _diverged(self, found: str) -> TrainingError:
        where, rate = f"epoch {self.epoch + 1}", self.config.optim.lr
        hint = f"lower optim.lr ({rate:g}) or optim.clip_norm, or look for infinite features with validate"
        return TrainingError(Problem("TRAIN-NAN", where=where, found=found, expected="a finite number", hint=hint))
