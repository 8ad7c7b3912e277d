"""The model behind MLflow's interface: videos or features in, a row for each frame out. Imports mlflow at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from affectgrid.data.splits.given import SUFFIX, given_split
from affectgrid.data.splits.resident import Split
from affectgrid.errors import AffectGridError, ModelError, Problem
from affectgrid.training.inference.details import frame_details, track_columns
from affectgrid.training.inference.package import ModelPackage, load_package
from affectgrid.training.inference.predict import predict_split

Found = Bool[np.ndarray, " row"]
Columns = dict[str, Float[np.ndarray, " row"]]
VIDEO, CONTENT, TRACK, FILL = "video", "content", "track", "fill"  # columns of the input, and its parameter


class Videos(Protocol):
    """Encodes videos as the model's training data were."""

    def split(self, video: str | bytes) -> tuple[Split, Found | None, Columns]:
        """The split of one video, given by its path, address or content, whether each frame has a face, and where."""


class ServedModel(PythonModel):  # type: ignore[misc]
    """A model package as MLflow loads it. `open_videos` makes what encodes videos, when the first one comes."""

    def __init__(self, open_videos: Callable[[ModelPackage], Videos]) -> None:
        self._open_videos = open_videos

    def load_context(self, context: Any) -> None:
        """Read the package; encoders are loaded with the first video. Raises ModelError."""
        self._package = load_package(Path(context.artifacts["package"]))
        self._videos: Videos | None = None
        self._lock = threading.Lock()  # a server has threads, and one decoding process

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Rows of the input one after another, each a video or the features of one.

        Args:
            context: unused; see `load_context`.
            model_input: in each row ``video`` (a path or an address), or ``content`` (a video file's bytes), or
                ``<stream>.feature`` and perhaps ``time_s`` as `given_split` takes them; ``track`` names it.
            params: ``fill``: what frames without a face are given, see `data.export.without_faces`; default: nothing.

        Returns ``input``, the number of the row, ``track``, and the columns that jobs/predict.py writes. Raises
        MlflowException with the coded error of what cannot be read.
        """
        fill = (params or {}).get(FILL) or None
        tables = []
        try:
            with self._lock:
                for number, row in enumerate(model_input.to_dict("records")):
                    given = {name: value for name, value in row.items() if not _is_absent(value)}
                    tables.append(self._table(number, given, fill))
            if not tables:
                raise _nothing()
        except AffectGridError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return pd.concat(tables, ignore_index=True)

    def _table(self, number: int, given: Mapping[str, Any], fill: Any) -> pd.DataFrame:
        package = self._package
        split, found, boxes = self._split(given)
        va = predict_split(package.model, split, package.config.window).va.numpy()
        columns = track_columns(split, 0, va, found, boxes | frame_details(package, split), fill)
        return pd.DataFrame({"input": number, TRACK: given.get(TRACK, split.track_ids[0]), **columns})

    def _split(self, given: Mapping[str, Any]) -> tuple[Split, Found | None, Columns]:
        package = self._package
        film = given.get(VIDEO, given.get(CONTENT))
        if film is None:
            columns = {name: value for name, value in given.items() if name.endswith(SUFFIX) or name == "time_s"}
            track, dims = str(given.get(TRACK, "track")), package.model.feature_dims
            return given_split(columns, dims, track=track, encoders=package.encoders), None, {}
        if self._videos is None:
            self._videos = self._open_videos(package)
        return self._videos.split(film)


def publish(open_videos: Callable[[ModelPackage], Videos]) -> None:
    """Make it the model of the script that is running: MLflow loads models from code."""
    set_model(ServedModel(open_videos))


def _nothing() -> ModelError:
    found, hint = "no row with a column of the signature", 'give [{"video": "clip.mp4"}], or a data frame'
    expected = f"{VIDEO}, {CONTENT}, or the features of a track"
    return ModelError(Problem("PRED-INPUT", where="the model's input", found=found, expected=expected, hint=hint))


def _is_absent(value: Any) -> bool:
    """A field that a data frame fills in where a row lacks it."""
    return value is None or value is pd.NA or (isinstance(value, float) and bool(np.isnan(value)))
