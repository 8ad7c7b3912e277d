"""Checkpoints, atomic and without pickled code, and torch's random state as a tensor that they can hold."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from affectgrid import storage
from affectgrid.errors import Problem, TrainingError
from affectgrid.metrics import Metrics
from affectgrid.storage.working_copy import WorkingCopy
from affectgrid.training.config import TrainConfig

_log = logging.getLogger(__name__)
_SEAL = "checkpoint.json"
_AVERAGE = "average.safetensors"
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """The state of a run after a whole epoch, or in the middle of one.

    The order of windows and, after a whole epoch, the random numbers follow from seed and epoch.

    Args:
        identity: of the configuration and the data; a checkpoint of another run is refused.
        epoch: epochs that are done.
        weights: of the model as it trains.
        best_weights: of the epoch with the best validation score.
        optimizer: the optimizer's ``state_dict``.
        history: the metrics of every epoch.
        average: the moving average of the weights, where the run has one.
        terms: [step, 4], the losses of the running epoch's finished steps; None between two epochs.
        random: [worker, byte], each worker's random state, in the middle of an epoch.
    """

    identity: str
    epoch: int
    weights: dict[str, Tensor]
    best_weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    history: list[dict[str, float]]
    average: dict[str, Tensor] | None = None
    terms: Tensor | None = None
    random: Tensor | None = None

    def require(self, identity: str) -> None:
        """Raises TrainingError (TRAIN-CHANGED) where this is of another run."""
        if self.identity != identity:
            found = f"a checkpoint of run {self.identity}, but configuration and data make run {identity}"
            expected = "the configuration, prompts and data that the run started with"
            hint = "use another name, or restore what changed"
            raise TrainingError(Problem("TRAIN-CHANGED", where="resume", found=found, expected=expected, hint=hint))


Save = Callable[[Path], Path]
SAVE_EVERY_S = 60.0  # a kill costs a minute, however long an epoch takes


def save_checkpoint(state: TrainingState, folder: Path) -> Path:
    """Write `state` as `folder` atomically; it replaces an existing one.

    Raises TrainingError (CKPT-WRITE) when it cannot be written; the existing one then stays.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a killed process that had the same number
        partial.mkdir(parents=True)
        save_file(_contiguous(state.weights), partial / "weights.safetensors")
        save_file(_contiguous(state.best_weights), partial / "best.safetensors")
        if state.average is not None:
            save_file(_contiguous(state.average), partial / _AVERAGE)
        rest = {"optimizer": state.optimizer, "history": state.history, "terms": state.terms, "random": state.random}
        torch.save(rest, partial / "optimizer.pt")
        step = 0 if state.terms is None else len(state.terms)
        seal = {"version": _VERSION, "identity": state.identity, "epoch": state.epoch, "step": step}
        seal["sha256"] = _digests(partial)
        (partial / _SEAL).write_text(json.dumps(seal, indent=2) + "\n")
        for path in (*partial.iterdir(), partial):
            storage.flush(path)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
        storage.flush(folder.parent)
    except (OSError, SafetensorError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        shutil.rmtree(partial, ignore_errors=True)
        raise TrainingError(
            Problem(
                "CKPT-WRITE",
                where=str(folder),
                found=str(error),
                expected="free space and permission to write",
                hint="free space or choose another storage",
            )
        ) from error
    return folder


def load_checkpoint(folder: Path) -> TrainingState:
    """Read what `save_checkpoint` wrote, on the CPU.

    Raises TrainingError (CKPT-TORN) if a byte is missing or changed.
    """
    try:
        seal = json.loads((folder / _SEAL).read_text())
        if seal["sha256"] != _digests(folder):
            raise ValueError("its files are not the ones that were written")
        rest = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
        average = load_file(folder / _AVERAGE) if _AVERAGE in seal["sha256"] else None
        return TrainingState(
            identity=seal["identity"],
            epoch=seal["epoch"],
            weights=load_file(folder / "weights.safetensors"),
            best_weights=load_file(folder / "best.safetensors"),
            average=average,
            **rest,
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise TrainingError(
            Problem(
                "CKPT-TORN",
                where=str(folder),
                found=str(error),
                expected="a complete checkpoint",
                hint="use an earlier one, or remove the folder",
            )
        ) from error


def load_newest(folders: Iterable[Path]) -> TrainingState | None:
    """The first intact checkpoint of `folders`, which come newest first; a warning for each torn one before it.

    None when there are no folders. Raises TrainingError when there are some and none is intact.
    """
    problems: list[Problem] = []
    for folder in folders:
        try:
            return load_checkpoint(folder)
        except TrainingError as error:
            _log.warning("%s; going back to the checkpoint before it", error)
            problems += error.problems
    if problems:
        raise TrainingError(*problems)
    return None


class SaveClock:
    """Asked after every step within an epoch, as `fit`'s `pause`: true where the newest checkpoint is too old.

    Args:
        every_s: seconds between checkpoints.
        clock: seconds from any beginning.
    """

    def __init__(self, every_s: float = SAVE_EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self.every_s = every_s
        self._clock = clock
        self._saved = clock()

    def __call__(self) -> bool:
        return self._clock() - self._saved >= self.every_s

    def saved(self) -> None:
        """Begin to count anew."""
        self._saved = self._clock()


class CheckpointFolder:
    """A folder with the newest checkpoints of one run; with `files`, under which it lies, also at their place."""

    def __init__(self, root: Path, files: WorkingCopy | None = None, *, num_kept: int = 2) -> None:
        self.root = root
        self.files = files or WorkingCopy(root)
        self.num_kept = num_kept

    def newest_first(self) -> list[Path]:
        """The checkpoints that are there."""
        return sorted(self.root.glob("epoch-*"), reverse=True)

    def load(self) -> TrainingState | None:
        """The newest intact one; None in a fresh folder."""
        with contextlib.suppress(FileNotFoundError):
            self.files.fetch(self.root)
        return load_newest(self.newest_first())

    def keep(self, metrics: dict[str, float], save: Save) -> None:
        """Save under the numbers of epoch and step and drop all but the newest: a `report` for `fit`."""
        step = f"-step-{int(metrics['step']):06d}" if "step" in metrics else ""
        self.files.put(save(self.root / f"epoch-{int(metrics['epoch']):05d}{step}"))
        for old in self.newest_first()[self.num_kept :]:
            self.files.remove(old)

    def clear(self) -> None:
        """Delete them all: the run is done."""
        self.files.remove(self.root)


def _contiguous(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.iterdir() if path.suffix in {".safetensors", ".pt"})
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def random_state(device: torch.device) -> UInt8[Tensor, " byte"]:
    """The state of the CPU's generator, followed by that of a GPU's."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states)


def set_random_state(state: UInt8[Tensor, " byte"], device: torch.device) -> None:
    """Restore the random numbers from where `random_state` was taken on the same kind of device."""
    size = len(torch.get_rng_state())
    torch.set_rng_state(state[:size].clone())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[size:].clone(), device)


def best_epoch(history: Sequence[Metrics]) -> Metrics:
    """The metrics of the epoch with the highest ``val/p``, the earliest of equals."""
    return max(history, key=lambda past: past["val/p"])


def kept_epoch(history: Sequence[Metrics], config: TrainConfig) -> Metrics:
    """The metrics of the epoch whose weights a run keeps."""
    return history[-1] if config.optim.keep == "last" else best_epoch(history)


def mean_history(histories: Sequence[Sequence[Metrics]]) -> list[Metrics]:
    """Every metric of every epoch that all folds have, as the mean over them."""
    num_epochs = min(len(history) for history in histories)
    return [
        {name: statistics.fmean(history[epoch][name] for history in histories) for name in histories[0][epoch]}
        for epoch in range(num_epochs)
    ]
