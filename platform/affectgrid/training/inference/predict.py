"""Predictions for whole tracks (windows, overlap merge, smoothing, clip), and their scores."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from affectgrid.data.splits.resident import Split
from affectgrid.errors import Problem, TrainingError
from affectgrid.metrics import CccAccumulator, CccIntervals, RegionScore, bootstrap_ccc, region_scores, track_moments
from affectgrid.model.config import FusionConfig
from affectgrid.model.fusion import FusionModel, FusionOutput
from affectgrid.regions import RegionGrid
from affectgrid.training.batches import Resident, Sampling
from affectgrid.training.config import WindowConfig
from affectgrid.windows import WindowIndex, delay, merge_windows, smooth

# Frames of one forward pass: on a CPU more are no faster, and take as much memory as a hundred tracks.
_BATCH_FRAMES = {"cpu": 4_096}
_BATCH_FRAMES_ELSEWHERE = 32_768


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Valence and arousal of every row of a split.

    Args:
        track_ids: in the split's order.
        offsets: track i holds the rows from offsets[i] up to offsets[i + 1].
        va: in [-1, 1].
    """

    track_ids: tuple[str, ...]
    offsets: Int[Tensor, " bound"]
    va: Float[Tensor, "frame 2"]

    def track(self, number: int) -> slice:
        """The rows of one track."""
        return slice(int(self.offsets[number]), int(self.offsets[number + 1]))


@dataclasses.dataclass(frozen=True)
class Scores:
    """CCC over the concatenation of all labelled frames; intervals over raw videos; error by region.

    `track_p` is P within each track, NaN without labels: for display, never to be averaged.
    """

    ccc_valence: float
    ccc_arousal: float
    p: float
    num_frames: int
    intervals: CccIntervals
    regions: tuple[RegionScore, ...]
    track_p: dict[str, float]

    def as_metrics(self, prefix: str = "val") -> dict[str, float]:
        """The three scores under the names that logs use."""
        names = ("ccc_valence", "ccc_arousal", "p")
        return {f"{prefix}/{name}": getattr(self, name) for name in names}


def predict_split(
    model: FusionModel, split: Split, window: WindowConfig, device: torch.device | str = "cpu"
) -> Predictions:
    """Predict every row of a split; labels are not read. The model is moved to `device` and left in evaluation mode.

    Raises TrainingError (PRED-NAN) where a prediction is not finite.
    """
    offsets = torch.as_tensor(split.offsets)
    va = predict_tracks(model.to(device), resident_for(model.config, window, split, device), offsets, window).cpu()
    return Predictions(tuple(split.track_ids), offsets, require_finite(va, split))


def require_finite(va: Float[Tensor, "frame 2"], split: Split) -> Float[Tensor, "frame 2"]:
    """The predictions of a split as they are. Raises TrainingError (PRED-NAN) where one is not finite."""
    finite, offsets = torch.isfinite(va).all(1), torch.as_tensor(split.offsets)
    if not finite.all():
        row = int(finite.logical_not().nonzero()[0])
        track = split.track_ids[int(torch.searchsorted(offsets, row, right=True)) - 1]
        hint = "train again with a smaller optim.lr, or check the features of this track"
        raise TrainingError(
            Problem(
                "PRED-NAN",
                where=str(track),
                found=f"{int((~finite).sum())} values are not finite",
                expected="finite values",
                hint=hint,
            )
        )
    return va


def resident_for(
    model: FusionConfig, window: WindowConfig, split: Split, device: torch.device | str = "cpu"
) -> Resident:
    """A split as such a model reads it: its streams alone, at the rate of its windows."""
    rate_hz = window.rate_hz
    sampling = None if rate_hz is None else Sampling.at(split, rate_hz, causal=model.causal)
    return Resident(split, device, names=model.streams, sampling=sampling)


def predict_tracks(
    model: FusionModel, resident: Resident, bounds: Int[Tensor, " bound"], window: WindowConfig
) -> Float[Tensor, "frame 2"]:
    """Merged, smoothed and clipped predictions of consecutive tracks: the rows from bounds[0] up to bounds[-1]."""
    merged = merge_tracks(model, resident, bounds, window)
    return finish_tracks(merged, resident, bounds, window, causal=model.config.causal)


@torch.no_grad()
def merge_tracks(
    model: FusionModel,
    resident: Resident,
    bounds: Int[Tensor, " bound"],
    window: WindowConfig,
    *,
    details: bool = False,
) -> Float[Tensor, "sample dim"]:
    """What the model says of every row, or every sample at the windows' rate, before anything is smoothed.

    Valence and arousal; with `details` then the probabilities of the regions, if it has a prompt head, and the share of
    each stream in what its last block with a gate has fused, in ``fused_order``, if it has one.

    A causal model reads each track in one piece, so that its state is carried from the first frame to the last; its
    attention reaches back as far as in training. Others read overlapping windows, whose middles count most.
    """
    model.eval()
    bounds = resident.bounds_of(bounds)
    causal, (length, stride) = model.config.causal, window.of_predictions
    if causal:
        length = stride = int(bounds.diff().max()) if len(bounds) > 1 else 1
    index = WindowIndex.over(bounds.tolist(), length, stride)
    if not len(index):
        return torch.zeros(0, 2, device=resident.device)
    reach = window.length - 1 if causal else 0
    longest, first, last = int((index.stop - index.start).max()), int(bounds[0]), int(bounds[-1])
    outputs: list[Tensor] = []
    size = max(1, _BATCH_FRAMES.get(resident.device.type, _BATCH_FRAMES_ELSEWHERE) // longest)
    for number in range(0, len(index), size):
        batch = resident.gather(index, torch.arange(number, min(number + size, len(index))))
        output = model(batch.streams, batch.frame_mask, attention_reach=reach, return_gates=details)
        said = torch.cat([output.va, *_details(output)], -1) if details else output.va
        outputs.append(nn.functional.pad(said, (0, 0, 0, longest - said.shape[1])))
    return merge_windows(torch.cat(outputs), index.spans - first, last - first)


def _details(output: FusionOutput) -> list[Tensor]:
    regions = [] if output.region_logits is None else [output.region_logits.softmax(-1)]
    return regions + [gate.mean(-1).transpose(1, 2) for gate in (output.gates or [])[-1:]]


def finish_tracks(
    merged: Float[Tensor, "sample 2"],
    resident: Resident,
    bounds: Int[Tensor, " bound"],
    window: WindowConfig,
    *,
    causal: bool,
) -> Float[Tensor, "frame 2"]:
    """`merged` smoothed, delayed as the labels are, clipped, and at another rate interpolated to the frames."""
    own, sampling = resident.bounds_of(bounds), resident.sampling
    va = smooth_tracks(merged, own - own[0], window, causal=causal)
    return va if sampling is None else sampling.to_rows(va, resident.split, bounds)


def smooth_tracks(
    va: Float[Tensor, "frame 2"], offsets: Int[Tensor, " bound"], window: WindowConfig, *, causal: bool = False
) -> Float[Tensor, "frame 2"]:
    """Smooth and delay each track by itself, then clip to [-1, 1]; track i has the rows offsets[i]:offsets[i + 1]."""
    tracks = [va[start:stop] for start, stop in itertools.pairwise(offsets.tolist())]
    return torch.cat([va[:0], *(_filtered(track, window, causal=causal) for track in tracks)]).clamp(-1, 1)


def _filtered(track: Float[Tensor, "frame 2"], window: WindowConfig, *, causal: bool) -> Float[Tensor, "frame 2"]:
    axes = zip((track[:, :1], track[:, 1:]), window.smooth_half_widths, window.label_delays, strict=True)
    kernel = window.smooth_kernel
    return torch.cat([delay(smooth(own, half, causal=causal, kernel=kernel), late) for own, half, late in axes], 1)


def moments_by_video(predictions: Predictions, split: Split) -> Float[Tensor, "video stat 2"]:
    """The moments of every raw video of the split that was predicted, in the order in which they first appear.

    Enough for pooled CCCs of any choice of videos. Two people of one video count together: they share its sound, its
    picture and often its mood.
    """
    return moments_by(predictions, split, split.raw_videos)


def moments_by(predictions: Predictions, split: Split, groups: Sequence[str]) -> Float[Tensor, "group stat 2"]:
    """The moments of every group of tracks, in the order in which the groups first appear.

    Args:
        groups: of each track, in the split's order.
    """
    va, labelled = torch.as_tensor(split.va), torch.as_tensor(split.labelled)
    by_track = track_moments([(predictions.va[rows], va[rows], labelled[rows]) for rows in _tracks(split)])
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    pooled = by_track.new_zeros(len(places), *by_track.shape[1:])
    return pooled.index_add_(0, torch.tensor([places[group] for group in groups], dtype=torch.int64), by_track)


def evaluate(predictions: Predictions, split: Split, grid: RegionGrid, *, num_resamples: int = 1000) -> Scores:
    """Compare predictions with the labels of the same split. NaN where nothing is labelled."""
    if tuple(split.track_ids) != predictions.track_ids:
        raise ValueError("the predictions are of other tracks than the split")
    va, labelled = torch.as_tensor(split.va), torch.as_tensor(split.labelled)
    pooled = CccAccumulator()
    tracks = [(predictions.va[rows], va[rows], labelled[rows]) for rows in _tracks(split)]
    track_p = {}
    for track_id, track in zip(predictions.track_ids, tracks, strict=True):
        alone = CccAccumulator()
        alone.update(*track)
        pooled.merge(alone)
        track_p[track_id] = float(alone.compute().mean())
    valence, arousal = pooled.compute().tolist()
    return Scores(
        ccc_valence=valence,
        ccc_arousal=arousal,
        p=(valence + arousal) / 2,
        num_frames=pooled.num_frames,
        intervals=bootstrap_ccc(moments_by_video(predictions, split), num_resamples=num_resamples),
        regions=tuple(region_scores(predictions.va, va, labelled, grid)),
        track_p=track_p,
    )


def _tracks(split: Split) -> Iterator[slice]:
    return (split.track(number) for number in range(split.num_tracks))
