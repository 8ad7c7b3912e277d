"""The three networks of MTCNN in numpy, and their weights from the wheel of the package `mtcnn`.

Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks", 2016. In numpy
because a decoding process has one thread, no GPU and no torch, which takes longer to import than a clip to search.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from affectgrid.errors import MediaError, Problem

# Of mtcnn 1.0.0 (MIT licence): pickles, which are opened only where these bytes are the known ones.
_SHA256 = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}
Array = Float32[np.ndarray, "..."]


class Networks:
    """P-Net proposes, R-Net refines, O-Net decides and finds five points. Pictures are RGB, (value - 127.5) / 128.

    Args:
        weights: by name of the network its arrays in order: kernels [height, width, in, out], biases, slopes.
    """

    def __init__(self, weights: dict[str, list[Array]]) -> None:
        self._weights = weights

    def propose(self, pictures: Float32[np.ndarray, "n h w 3"]) -> tuple[Array, Array]:
        """Probability [n, y, x] of a face in each cell of 12 pixels, 2 apart, and its box's offsets [n, y, x, 4]."""
        w = self._weights["pnet"]
        x = _pool(_convolve(pictures, *w[0:3]), 2, pad=True)
        x = _convolve(_convolve(x, *w[3:6]), *w[6:9])
        return _face(_convolve(x, *w[11:13])), _convolve(x, *w[9:11])

    def refine(self, patches: Float32[np.ndarray, "n 24 24 3"]) -> tuple[Array, Array]:
        """Probability [n] of a face, and offsets [n, 4]."""
        w = self._weights["rnet"]
        x = _pool(_convolve(patches, *w[0:3]), 3, pad=True)
        x = _convolve(_pool(_convolve(x, *w[3:6]), 3), *w[6:9])
        x = _connect(_flatten(x), *w[9:12])
        return _face(_connect(x, *w[14:16])), _connect(x, *w[12:14])

    def decide(self, patches: Float32[np.ndarray, "n 48 48 3"]) -> tuple[Array, Array, Array]:
        """Probability [n] of a face, offsets [n, 4], and points [n, 2, 5] as shares of the patch: x, then y."""
        w = self._weights["onet"]
        x = _pool(_convolve(patches, *w[0:3]), 3, pad=True)
        x = _pool(_convolve(x, *w[3:6]), 3)
        x = _convolve(_pool(_convolve(x, *w[6:9]), 2, pad=True), *w[9:12])
        x = _connect(_flatten(x), *w[12:15])
        return _face(_connect(x, *w[19:21])), _connect(x, *w[15:17]), _connect(x, *w[17:19]).reshape(-1, 2, 5)


def load_weights() -> dict[str, list[Array]]:
    """The trained weights. Raises MediaError (MED-DETECTOR) where the package is missing or another version."""
    spec = importlib.util.find_spec("mtcnn")  # not imported: it would ask for TensorFlow
    if spec is None or not spec.submodule_search_locations:
        raise _unusable("not installed")
    import joblib  # what the wheel's files are written with; both come with it

    folder = Path(spec.submodule_search_locations[0]) / "assets" / "weights"
    weights: dict[str, list[Array]] = {}
    for name, expected in _SHA256.items():
        path = folder / f"{name}.lz4"
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != expected:
            raise _unusable(f"other weights than those of version 1.0.0: {path}")
        weights[name] = [np.ascontiguousarray(array) for array in joblib.load(io.BytesIO(data))]
    return weights


def _unusable(found: str) -> MediaError:
    hint = "pip install 'affectgrid[faces]'"
    return MediaError(
        Problem("MED-DETECTOR", where="mtcnn", found=found, expected="the weights of a face detector", hint=hint)
    )


def _convolve(x: Array, kernel: Array, bias: Array, slope: Array | None = None) -> Array:
    """A valid convolution of [n, h, w, in] with stride 1, as one product of matrices."""
    size, channels = kernel.shape[0], x.shape[3]
    height, width = x.shape[1] - size + 1, x.shape[2] - size + 1
    columns = np.empty((len(x), height, width, size * size * channels), np.float32)
    for place in range(size * size):
        down, right = divmod(place, size)
        part = slice(place * channels, (place + 1) * channels)
        columns[..., part] = x[:, down : down + height, right : right + width]
    return _connect(columns, kernel.reshape(-1, kernel.shape[3]), bias, slope)


def _connect(x: Array, weights: Array, bias: Array, slope: Array | None = None) -> Array:
    """A fully connected layer over the last axis; with `slope` below zero (PReLU)."""
    y: Array = (x.reshape(-1, x.shape[-1]) @ weights + bias).astype(np.float32, copy=False)
    if slope is not None:
        np.multiply(y, slope.reshape(-1), out=y, where=y < 0)
    return y.reshape(*x.shape[:-1], -1)


def _pool(x: Array, size: int, *, pad: bool = False) -> Array:
    """The largest of size x size values, 2 apart; `pad`: also where only a part of them is there."""
    if pad:
        missing = [max((-(-side // 2) - 1) * 2 + size - side, 0) for side in x.shape[1:3]]
        ends = [(few // 2, few - few // 2) for few in missing]
        x = np.pad(x, ((0, 0), *ends, (0, 0)), constant_values=-np.inf)
    height, width = ((side - size) // 2 + 1 for side in x.shape[1:3])
    out = np.full((len(x), height, width, x.shape[3]), -np.inf, np.float32)
    for place in range(size * size):
        down, right = divmod(place, size)
        np.maximum(out, x[:, down : down + 2 * height - 1 : 2, right : right + 2 * width - 1 : 2], out=out)
    return out


def _flatten(x: Array) -> Array:
    """Columns before rows: the networks were trained on pictures that lay on their side."""
    return x.transpose(0, 2, 1, 3).reshape(len(x), -1)


def _face(logits: Array) -> Array:
    """Probability of the second of two classes."""
    difference = np.clip(logits[..., 0] - logits[..., 1], -80, 80)
    return np.asarray(1 / (1 + np.exp(difference)), np.float32)
