"""The script of a model in MLflow (models from code): what encodes videos, and the interface that predicts them.

It is copied into the model with the package beside it, and needs neither Ray nor the repository.
"""

from __future__ import annotations

import posixpath
import shutil
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from affectgrid.errors import MediaError, ModelError, Problem
from affectgrid.tracking.pyfunc import Columns, Found, publish

if TYPE_CHECKING:  # encoders are loaded with the first video
    from affectgrid.data.splits.resident import Split
    from affectgrid.training.inference.package import ModelPackage

_TIMEOUT_S = 60.0


class LocalVideos:
    """Videos as the splits that a model package predicts, encoded in this process."""

    def __init__(self, package: ModelPackage) -> None:
        from affectgrid.data.features.store import FeatureStore
        from affectgrid.distributed.encode.in_process import LocalEncoder

        self._package = package
        self._folder = tempfile.TemporaryDirectory(prefix="affectgrid-")  # goes with the model
        self._store = FeatureStore(Path(self._folder.name) / "features")
        self._encoder = LocalEncoder(self._store)

    def split(self, video: str | bytes) -> tuple[Split, Found | None, Columns]:
        """A video given by its path, its address (http, https, s3, gs) or its content; where faces are, by column.

        Raises MediaError (PRED-NONE) and CatalogError where it cannot be read; ModelError where an encoder cannot be
        loaded, and PKG-ENCODER where it is not the one whose features the model has learnt from.
        """
        from affectgrid.data.catalog import read_folder
        from affectgrid.data.splits.resident import load_split
        from affectgrid.distributed.options import encoding_for
        from affectgrid.training.inference.details import face_boxes

        with tempfile.TemporaryDirectory(dir=self._folder.name) as folder:
            catalog = read_folder(_place(video, Path(folder)))
            config = encoding_for(self._package.encoders, catalog)
            report = self._encoder.encode(catalog, config)
        (track,) = catalog.tracks
        try:
            if report.quarantined:
                raise _unreadable(track.id, "; ".join(failure.reason for failure in report.quarantined))
            split = load_split(self._store, [track], fingerprints=report.fingerprints, name="predict")
            boxes = face_boxes(self._store, report.fingerprints["visual"], split)
        finally:
            for kind, fingerprint in report.fingerprints.items():
                self._store.remove(kind, fingerprint, track.id)
        found = None if config.visual.crop == "frame" else split.streams["visual"].present
        split = split.with_absent(self._package.model.feature_dims)
        _require_dims(split, self._package)
        return split, found, boxes


def _require_dims(split: Split, package: ModelPackage) -> None:
    dims = package.model.feature_dims
    other = {name: split.dims[name] for name, dim in dims.items() if split.dims[name] != dim}
    if other:
        where, found = package.encoders["visual"], f"features of length {other}"
        hint = "give the encoder the weights that the model was trained with"
        raise ModelError(Problem("PKG-ENCODER", where=where, found=found, expected=f"{dims}", hint=hint))


def _place(video: str | bytes, folder: Path) -> str:
    """Where a video can be read: what came as content, or over the web, in `folder`."""
    if isinstance(video, bytes):
        (folder / "content.mp4").write_bytes(video)  # its bytes say what it is
        return str(folder / "content.mp4")
    parts = urlsplit(video)
    if parts.scheme not in ("http", "https"):
        return video
    path = folder / (posixpath.basename(unquote(parts.path)) or "video.mp4")
    try:
        with urllib.request.urlopen(video, timeout=_TIMEOUT_S) as answer, path.open("wb") as file:  # noqa: S310 - http
            shutil.copyfileobj(answer, file)
    except OSError as error:
        raise _unreadable(video, str(error)) from error
    return str(path)


def _unreadable(where: str, found: str) -> MediaError:
    expected, hint = "a video that can be read", "look at it with jobs/validate.py --deep"
    return MediaError(Problem("PRED-NONE", where=where, found=found, expected=expected, hint=hint))


publish(LocalVideos)
