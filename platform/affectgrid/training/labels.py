"""Labels as the loss needs them: smoothed over time, as distributions over regions, as probabilities of windows."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from affectgrid.data.splits.resident import Split
from affectgrid.errors import Problem, TrainingError
from affectgrid.model.fusion import FusionModel
from affectgrid.regions import RegionGrid, Sigma, one_hot_labels, soft_labels
from affectgrid.training.batches import Resident
from affectgrid.training.config import PromptConfig, TrainConfig
from affectgrid.windows import WindowIndex, smooth


class RegionLabels:
    """Labels over the regions of a grid, on one device."""

    def __init__(self, prompt: PromptConfig, grid: RegionGrid, device: torch.device) -> None:
        self.smoothing = prompt.smoothing if prompt.labels == "uniform" else 0.0
        self.gaussian = prompt.labels in ("gaussian", "learned")
        self.centres = grid.centres_tensor(device=device)
        valence, arousal = prompt.sigmas(grid.spacing)
        self.sigma: Sigma = valence if valence == arousal else torch.tensor([valence, arousal], device=device)

    def __call__(
        self, va: Float[Tensor, "*batch 2"], learned: Float[Tensor, " axis"] | None
    ) -> Float[Tensor, "*batch region"]:
        """`learned` are the widths that the model has learnt, where it learns them; gradients pass to them."""
        if not self.gaussian:
            return one_hot_labels(va, self.centres, smoothing=self.smoothing)
        if learned is None:
            return soft_labels(va, self.centres, sigma=self.sigma)
        # A frame without a label holds anything. No loss reads it, but backwards even 0 times its NaN would be NaN.
        return soft_labels(va.nan_to_num(0.0).clamp(-1, 1), self.centres, sigma=learned)


def learned_widths(model: FusionModel) -> dict[str, float]:
    """The widths that a model has learnt so far, as metrics; empty where it learns none."""
    if model.sigma is None:
        return {}
    valence, arousal = model.sigma().tolist()
    return {"train/sigma_valence": valence, "train/sigma_arousal": arousal}


def require_labels(*splits: Split) -> None:
    """Raises TrainingError (TRAIN-LABELS) where a split has no labelled frame."""
    for split in splits:
        if not split.labelled.any():
            found = f"no labelled frame in {split.num_tracks} track(s)"
            hint = "check the annotations with validate; -5 marks a frame as not labelled"
            raise TrainingError(
                Problem("TRAIN-LABELS", where=f"split {split.name}", found=found, expected="at least one", hint=hint)
            )


def _require_some(train: Resident, delays: tuple[int, int]) -> None:
    if not train.labelled.any():
        found, hint = f"no frame whose label is {delays} frames later in its track", "lower window.label_delay"
        raise TrainingError(
            Problem("TRAIN-LABELS", where="window.label_delay", found=found, expected="at least one", hint=hint)
        )


def training_windows(
    train: Resident, config: TrainConfig, grid: RegionGrid
) -> tuple[WindowIndex, Float[Tensor, " window"] | None]:
    """The windows of a training split, and their relative chances where they are not drawn alike.

    The labels of `train` become those that the loss reads: as much later as annotators lag, then smoothed over time.
    """
    window, loss, offsets = config.window, config.loss, train.offsets
    if any(window.label_delays):
        train.va, train.labelled = read_later(train.va, train.labelled, offsets, window.label_delays)
        _require_some(train, window.label_delays)
    windows = train.with_labels(WindowIndex.over(offsets.tolist(), window.length, window.stride))
    labels, exponent = (train.va, train.labelled), config.optim.region_balance
    chances = window_chances(*labels, windows, grid, exponent=exponent) if exponent else None
    if loss.label_smoothing_frames:
        train.va = smooth_over_time(*labels, offsets, loss.label_smoothing_frames)
    return windows, chances


def smooth_over_time(
    va: Float[Tensor, "row 2"], labelled: Bool[Tensor, " row"], offsets: Int[Tensor, " bound"], half_width: int
) -> Float[Tensor, "row 2"]:
    """Each label averaged over the labelled frames of its track that lie within `half_width` of it.

    Annotators lag and jitter by a fraction of a second; the mean reduces that. Rows that are not
    labelled are left as they are, and no row counts for another track. Track i has the rows offsets[i]:offsets[i + 1].
    """
    tracks = [slice(first, end) for first, end in itertools.pairwise(offsets.tolist())]
    smoothed = torch.cat([smooth(va[rows], half_width, labelled[rows]) for rows in tracks])
    return torch.where(labelled[:, None], smoothed, va)


def read_later(
    va: Float[Tensor, "row 2"],
    labelled: Bool[Tensor, " row"],
    offsets: Int[Tensor, " bound"],
    delays: tuple[int, int],
) -> tuple[Float[Tensor, "row 2"], Bool[Tensor, " row"]]:
    """Each row with the labels of `delays` rows later, of valence and of arousal; not labelled beyond a track's end.

    Annotators see before they move their hand; the paper of a data set or a search says by how much.
    """
    end = torch.repeat_interleave(offsets[1:], offsets.diff()).to(va.device)
    row = torch.arange(len(va), device=va.device)
    places = [(row + late).clamp(max=len(va) - 1) for late in delays]
    inside = torch.stack([row + late < end for late in delays]).all(0)
    moved = torch.stack([va[place, axis] for axis, place in enumerate(places)], 1)
    return moved, inside & labelled[places[0]] & labelled[places[1]]


def window_chances(
    va: Float[Tensor, "row 2"],
    labelled: Bool[Tensor, " row"],
    windows: WindowIndex,
    grid: RegionGrid,
    *,
    exponent: float,
) -> Float[Tensor, " window"]:
    """Relative chance of each window: the mean of (1 / share of the region) ** exponent over its labelled frames.

    The share of a region is that of the labelled rows. With exponent 1 and windows that lie in one region each, every
    region is drawn equally often; 0 draws all windows equally; between them is tempering. Windows without a labelled
    frame have no chance. Computed in float64 on the CPU, so that every worker draws the same.
    """
    va, labelled = va.cpu(), labelled.cpu()
    region = grid.nearest(va)
    support = torch.bincount(region[labelled], minlength=grid.num_regions).double()
    rarity = (support.sum() / support.clamp(min=1)) ** exponent
    kept = torch.stack([torch.where(labelled, rarity[region], 0), labelled.double()], 1)
    sums = torch.cat([kept.new_zeros(1, 2), kept.cumsum(0)])
    rarities, counts = (sums[windows.stop] - sums[windows.start]).unbind(1)
    return torch.where(counts > 0, rarities / counts.clamp(min=1), 0)
