"""From a model package and any videos to predictions on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from affectgrid.data.catalog import Catalog, read_aff_wild2, read_folder
from affectgrid.data.export import write_submission, write_track
from affectgrid.data.resident import load_split
from affectgrid.data.store import FeatureStore
from affectgrid.data.workspace import Workspace
from affectgrid.distributed.encode import EncodeReport, Quarantined, encode
from affectgrid.distributed.prepare import DataOptions
from affectgrid.errors import CatalogError, Problem
from affectgrid.training.inference import predict_split
from affectgrid.training.package import ModelPackage

_LAYOUT = ("VA_Estimation_Challenge", "annotations", "cropped_aligned")


@dataclasses.dataclass(frozen=True)
class PredictReport:
    """What was written where, and what could not be read."""

    folder: Path
    tracks: int
    frames: int
    submission: Path | None
    encoders: dict[str, str]
    quarantined: tuple[Quarantined, ...]

    def lines(self) -> Iterator[str]:
        """A few lines for a person."""
        yield f"{self.tracks} tracks, {self.frames} frames: {self.folder}/<track>.csv (frame, time_s, valence, arousal)"
        if self.submission:
            yield f"the challenge's file: {self.submission}"
        if "tiny" in self.encoders.values():
            yield "note: encoded with `tiny`, a random encoder for tests and the demo; not a result about people"
        for failure in self.quarantined:
            yield f"not predicted: {failure.track}: {failure.reason}"


def predict(
    package: ModelPackage,
    videos: Path,
    workspace: Workspace,
    *,
    crop: Literal["crops", "detect", "frame"] | None = None,
    template: Path | None = None,
) -> PredictReport:
    """Encode `videos` as the model's training data were, and predict every frame. Needs a Ray connection.

    Faces come from crop files where there are any, else from the detector, unless `crop` says otherwise: features of
    the whole frame fit only a model that was trained on whole frames. Raises CatalogError when no track can be read.
    """
    catalog = open_videos(videos)
    config = DataOptions.for_package(str(videos), package.encoders).encode
    if config.visual.crop != "frame":
        crop = crop or ("crops" if any(track.crops for track in catalog.tracks) else "detect")
    config = config.model_copy(update={"visual": config.visual.model_copy(update={"crop": crop or config.visual.crop})})
    report = encode(catalog, workspace.features, config)
    return _write(package, catalog, report, workspace, template)


def open_videos(videos: Path) -> Catalog:
    """A video, a folder of videos, or a folder in Aff-Wild2's layout."""
    if any((videos / name).is_dir() for name in _LAYOUT):
        return read_aff_wild2(videos.resolve())
    return read_folder(videos.resolve())


def _write(
    package: ModelPackage, catalog: Catalog, report: EncodeReport, workspace: Workspace, template: Path | None
) -> PredictReport:
    lost = {failure.track for failure in report.quarantined}
    # Labels are not for a prediction: without them a track has the rows of its video.
    tracks = [dataclasses.replace(track, annotation=None) for track in catalog.tracks if track.id not in lost]
    if not tracks:
        reasons = "; ".join(f"{failure.track}: {failure.reason}" for failure in report.quarantined[:3])
        raise CatalogError(
            Problem(
                "PRED-NONE", str(catalog.root), reasons or "no video", "a video that can be read", "see the reasons"
            )
        )
    store, prints = FeatureStore(workspace.features), report.fingerprints
    split = load_split(store, tracks, visual_fp=prints["visual"], audio_fp=prints["audio"], name="predict")
    predictions = predict_split(package.model, split, package.config.window)
    folder = workspace.root / "predictions"
    va = predictions.va.numpy()
    by_track = {track: va[split.track(number)] for number, track in enumerate(split.track_ids)}
    for number, track in enumerate(split.track_ids):
        rows = split.track(number)
        write_track(folder / f"{track}.csv", split.frame_index[rows], split.time_s[rows], va[rows])
    submission = folder / "submission.txt" if template else None
    if template and submission:
        write_submission(submission, template, by_track)
    return PredictReport(folder, len(tracks), len(va), submission, package.encoders, report.quarantined)
