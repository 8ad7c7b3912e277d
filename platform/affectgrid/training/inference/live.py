"""A causal model that is given frames and sound as they come, and predicts each frame at once."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from affectgrid.data.splits.interpolation import hold_hops
from affectgrid.data.splits.resident import Split, StreamRows
from affectgrid.errors import ModelError, Problem
from affectgrid.training.inference.package import ModelPackage
from affectgrid.training.inference.predict import predict_split


class LiveModel:
    """Predicts the newest frames from those of the last `context_s` seconds.

    Within the context the predictions are those of ``predict_split`` on causal features. Later the state that came
    before it is lost; a minute of GRU state that is older than the context counts for little, and attention reaches no
    further than its windows.

    Args:
        package: a causal model of pictures and sound.
        context_s: how much is read again for each prediction.

    Raises ModelError (LIVE-CAUSAL) for a model that looks ahead, (LIVE-STREAMS) for one that reads imported streams.
    """

    def __init__(self, package: ModelPackage, *, context_s: float = 20.0) -> None:
        if not package.config.model.causal:
            raise ModelError(
                Problem(
                    "LIVE-CAUSAL",
                    where="model.temporal",
                    found=package.config.model.temporal,
                    expected="a causal model: gru, causal-tcn, causal-transformer or causal-ssm",
                    hint="train one with --config.model.temporal gru --encode.causal",
                )
            )
        if foreign := sorted(set(package.config.model.streams) - {"visual", "audio"}):
            hint, found = "use a model of pictures and sound", ", ".join(foreign)
            raise ModelError(
                Problem("LIVE-STREAMS", where="model.streams", found=found, expected="visual, audio", hint=hint)
            )
        self._package, self._context_s = package, context_s
        dims = package.model.feature_dims
        self._frames = _Rows(dims.get("visual", 1))
        self._hops = _Rows(dims.get("audio", 1))

    def add_frames(self, time_s: Float[np.ndarray, " n"], present: np.ndarray, features: np.ndarray) -> None:
        """Frames in the order of their times, with whether each has a picture, and its features [n, dim]."""
        self._frames.append(time_s, present, features)

    def add_hops(self, time_s: Float[np.ndarray, " n"], present: np.ndarray, features: np.ndarray) -> None:
        """Hops of sound likewise."""
        self._hops.append(time_s, present, features)

    def predict(self, newest: int) -> Float[np.ndarray, "newest 2"]:
        """Valence and arousal of the `newest` frames, smoothed and delayed as the model's settings say."""
        start_s = self._frames.time_s[-newest] - self._context_s
        self._frames.forget(start_s)
        self._hops.forget(start_s - 1.0)  # the hop before the first frame is held
        frames, count = self._frames, len(self._frames.time_s)
        sound, heard = hold_hops(self._hops.time_s, self._hops.present, self._hops.feature, frames.time_s)
        split = Split(
            name="live",
            track_ids=("live",),
            offsets=np.array([0, count]),
            frame_index=np.arange(1, count + 1, dtype=np.int32),
            time_s=frames.time_s,
            streams={"visual": StreamRows(frames.feature, frames.present), "audio": StreamRows(sound, heard)},
            va=np.zeros((count, 2), np.float32),
            labelled=np.zeros(count, np.bool_),
            encoders={},
        )
        va: Float[np.ndarray, "newest 2"] = (
            predict_split(self._package.model, split, self._package.config.window).va[-newest:].numpy()
        )
        return va


class _Rows:
    """Times, presence and features, in float16 as the feature store has them."""

    def __init__(self, dim: int) -> None:
        self.time_s = np.zeros(0)
        self.present: Bool[np.ndarray, " row"] = np.zeros(0, np.bool_)
        self.feature = np.zeros((0, dim), np.float16)

    def append(self, time_s: np.ndarray, present: np.ndarray, features: np.ndarray) -> None:
        self.time_s = np.concatenate([self.time_s, time_s])
        self.present = np.concatenate([self.present, present])
        self.feature = np.concatenate([self.feature, features.astype(np.float16)])

    def forget(self, before_s: float) -> None:
        first = int(np.searchsorted(self.time_s, before_s))
        self.time_s, self.present, self.feature = self.time_s[first:], self.present[first:], self.feature[first:]
