"""Predict any videos with model packages, and write the predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from affectgrid.data.catalog import Catalog, Track, is_aff_wild2, read_aff_wild2, read_folder
from affectgrid.data.export import Fill, Filled, write_submission
from affectgrid.data.features.imported import imported_by
from affectgrid.data.features.report import Quarantined
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.splits.resident import Split, load_split
from affectgrid.data.workspace import Workspace
from affectgrid.distributed.encode.run import encode
from affectgrid.distributed.options import Crop, encoding_for
from affectgrid.errors import CatalogError, Problem
from affectgrid.reporting.look.course import read_courses
from affectgrid.reporting.look.overlay import write_overlay
from affectgrid.reporting.scores import write_predictions
from affectgrid.storage import Storage, results
from affectgrid.training.inference.details import face_boxes, frame_details
from affectgrid.training.inference.ensemble import Ensemble, combine

_SHORT_BYTES = 8 << 20  # obama_speech.mp4 of the tests' media: 9 s of 1280 x 720 in 2.5 MB


@dataclasses.dataclass(frozen=True)
class PredictReport:
    """What was written, where, which tracks could not be read, and which ones lack an imported stream, by stream.

    `faces` counts each track's frames with a face, and `lengths` all of them; of whole pictures it is empty.
    """

    place: Storage
    tracks: int
    frames: int
    submission: str
    encoders: tuple[str, ...]
    quarantined: tuple[Quarantined, ...]
    filled: tuple[Filled, ...] = ()
    without: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    faces: Mapping[str, int] = dataclasses.field(default_factory=dict)
    lengths: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def faceless(self) -> bool:
        """Whether faces were looked for and none was found in any track."""
        return bool(self.faces) and not any(self.faces.values())


def predict(
    ensemble: Ensemble,
    videos: Sequence[Path | str],
    workspace: Workspace,
    *,
    tracks: Sequence[Path] = (),
    crop: Crop | None = None,
    template: Path | None = None,
    fill: Fill | None = None,
    store: str | None = None,
    overlay: bool = False,
) -> PredictReport:
    """Encode `videos` as the models' training data were, and predict every frame.

    Works on Ray where it is connected, else in this process. A CSV file and a picture for each track, and one Parquet
    file of all; where faces were looked for with the face's box in pixels and the detector's score. Where no face was
    found there is no prediction, unless `fill` says otherwise: the last one with a face, 0, 0, or what the model says
    without a face. Faces come from crop files where there are any, else from the detector, unless `crop` says
    otherwise: features of the whole frame fit only a model that was trained on whole frames. `template` and `fill`: see
    `data.export.write_submission`. `store` is where features are kept, by default
    the workspace; `tracks` as ``Catalog.only`` takes them; with `overlay` each video is written again with its
    predictions drawn in. Raises CatalogError when no track can be read.
    """
    catalog = open_all(videos).only(tracks)
    features = FeatureStore(store or workspace.features)
    configs = [encoding_for(encoders, catalog, crop) for encoders in ensemble.encoders]
    reports = [encode(catalog, features.root, config) for config in configs]
    lost = {failure.track: failure for report in reports for failure in report.quarantined}
    readable = _readable(catalog, lost)
    splits: list[Split] = []
    without: dict[str, tuple[str, ...]] = {}

    def split_for(encoders: Mapping[str, str]) -> Split:
        prints = dict(reports[ensemble.encoders.index(dict(encoders))].fingerprints)
        imported = imported_by(encoders)
        for stream in imported:
            known = set(features.tracks(stream.name, stream.fingerprint))
            if lacking := tuple(track.id for track in readable if track.id not in known):
                without[stream.name] = lacking
            if known:
                prints[stream.name] = stream.fingerprint
        split = load_split(features, readable, fingerprints=prints, name="predict")
        own = [member.model.feature_dims for member in ensemble.members if member.encoders == encoders]
        splits.append(split.with_absent({name: dim for dims in own for name, dim in dims.items()}))
        return splits[-1]

    predictions = combine(ensemble.predict_members(split_for), ensemble.weights)
    place, split, va = workspace.predictions, splits[0], predictions.va.numpy()
    found = None if configs[0].visual.crop == "frame" else split.streams["visual"].present
    details = face_boxes(features, reports[0].fingerprints["visual"], split)
    if len(ensemble.members) == 1:
        details |= frame_details(ensemble.members[0], split)
    with results(place) as folder:
        write_predictions(folder, split, va, found, details, fill)
        submission, filled = _write_submission(folder, split, va, template, fill)
        if overlay:
            for course in read_courses(readable, Storage(folder / "predictions.parquet")):
                write_overlay(course, folder / f"{course.track}.mp4")
    models = tuple(member.encoders[stream] for member in ensemble.members for stream in ("visual", "audio"))
    written = place.show(submission.name) if submission else ""
    return PredictReport(
        place,
        len(readable),
        len(va),
        written,
        models,
        tuple(lost.values()),
        filled,
        without,
        faces={} if found is None else _per_track(split, found),
        lengths=_per_track(split, np.ones(len(va), np.bool_)),
    )


def is_short(videos: Sequence[Path | str]) -> bool:
    """Whether one process has encoded `videos` before a cluster of its own would have started: files of 8 MiB in all.

    Also where they cannot be looked at, for that error comes sooner without one.
    """
    paths = [Path(video) for video in videos]
    return not any(path.is_dir() or "://" in str(video) for path, video in zip(paths, videos, strict=True)) and (
        sum(path.stat().st_size for path in paths if path.exists()) <= _SHORT_BYTES
    )


def open_videos(videos: Path | str) -> Catalog:
    """A video, a folder of videos, or a folder in Aff-Wild2's layout; on this machine or in a bucket."""
    return read_aff_wild2(videos, labels="optional") if is_aff_wild2(videos) else read_folder(videos)


def _readable(catalog: Catalog, lost: Mapping[str, Quarantined]) -> list[Track]:
    # Predictions need no labels, and without them a track has a row for every frame of its video.
    tracks = [dataclasses.replace(track, annotation=None) for track in catalog.tracks if track.id not in lost]
    if not tracks:
        reasons = "; ".join(f"{failure.track}: {failure.reason}" for failure in list(lost.values())[:3])
        raise CatalogError(
            Problem(
                "PRED-NONE",
                where=str(catalog.root),
                found=reasons or "no video",
                expected="a video that can be read",
                hint="repair one of them, or give other videos",
            )
        )
    return tracks


def _write_submission(
    folder: Path, split: Split, va: NDArray[np.float32], template: Path | None, fill: Fill | None
) -> tuple[Path | None, tuple[Filled, ...]]:
    """The challenge's file in the order of `template`; returns its path, and what was filled."""
    if template is None:
        return None, ()
    by_track = {track: va[split.track(number)] for number, track in enumerate(split.track_ids)}
    submission = folder / "submission.txt"
    return submission, write_submission(submission, template, by_track, fill=fill)


def _per_track(split: Split, counted: NDArray[np.bool_]) -> dict[str, int]:
    return {track: int(counted[split.track(number)].sum()) for number, track in enumerate(split.track_ids)}


def open_all(videos: Sequence[Path | str]) -> Catalog:
    """The tracks of several videos and folders together. Raises CatalogError (PRED-TWICE) for one name in two."""
    catalogs = [open_videos(place) for place in videos]
    if len(catalogs) == 1:
        return catalogs[0]
    tracks = [track for catalog in catalogs for track in catalog.tracks]
    twice = sorted({track.id for track in tracks if sum(other.id == track.id for other in tracks) > 1})
    if twice:
        where = ", ".join(str(track.video) for track in tracks if track.id == twice[0])
        hint = "rename one: results are called after their video"
        raise CatalogError(Problem("PRED-TWICE", where=where, found=f"{twice[0]} twice", expected="one", hint=hint))
    notes = tuple(note for catalog in catalogs for note in catalog.notes)
    return Catalog(catalogs[0].root, tuple(sorted(tracks, key=lambda track: track.id)), notes)
