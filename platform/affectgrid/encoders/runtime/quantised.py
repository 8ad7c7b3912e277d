"""int8 models: NNCF quantises one on a run's own samples; it is kept with them, and is the same for every process."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import logging
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor, nn

from affectgrid.encoders.runtime.openvino_runtime import convert, extra
from affectgrid.encoders.towers.quiet import quiet
from affectgrid.errors import Problem, StoreError
from affectgrid.storage import Storage

FOLDER = "_int8"  # under a feature store; no stream's name begins so


@dataclasses.dataclass(frozen=True)
class Quantised:
    """A quantised model in a file, beside the samples that it was calibrated on.

    Args:
        place: the feature store.
        key: names the network and the shape of its inputs.
        digest: of the quantised weights and their ranges: whoever has the same computes the same.
    """

    place: Storage
    key: str
    digest: str

    @property
    def name(self) -> str:
        """Its file."""
        return f"{FOLDER}/{self.key}-{self.digest}.npz"

    def open(self) -> Any:
        """The `openvino.Model`. Raises StoreError (STO-DAMAGED), ModelError (MOD-RUNTIME)."""
        core = extra("openvino").Core()
        try:
            with np.load(io.BytesIO(self.place.read(self.name))) as content:
                return core.read_model(content["model"].tobytes(), content["weights"].tobytes())
        except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
            found, expected = f"{type(error).__name__}: {error}", "the quantised model as it was written"
            hint = "remove it: the next run calibrates again"
            where = self.place.show(self.name)
            raise StoreError(Problem("STO-DAMAGED", where=where, found=found, expected=expected, hint=hint)) from error


def key_of(weights: str, inputs: Sequence[Tensor]) -> str:
    """16 hexadecimal digits over a network's weights, by their digest, and the shape of one of its inputs."""
    shapes = [tuple(value.shape[1:]) for value in inputs]
    return hashlib.sha256(f"{weights} {shapes}".encode()).hexdigest()[:16]


def find(places: Sequence[Storage], key: str) -> Quantised | None:
    """What was quantised before, in the first place that has it."""
    for place in places:
        for entry in place.list_files(FOLDER):
            known, _, digest = entry.name.removesuffix(".npz").partition("-")
            if known == key:
                return Quantised(place, key, digest)
    return None


def quantise(network: nn.Module, inputs: Sequence[Tensor], sample: Any, place: Storage, key: str) -> Quantised:
    """Quantise a float32 network to int8 weights and activations, and keep the result.

    NNCF's post-training quantisation for transformers, with SmoothQuant: each activation's range comes from `inputs`
    [n, ...], which the network takes for `sample`. The same inputs give the same bytes. Raises ModelError (MOD-RUNTIME,
    MOD-CONVERT), StoreError (STO-WRITE, STO-FULL).
    """
    model = convert(network, [value[:2] for value in inputs])
    items = [{k: value[n : n + 1].numpy() for k, value in enumerate(inputs)} for n in range(len(inputs[0]))]
    with _silence():
        nncf = extra("nncf")
        quantised = nncf.quantize(
            model, nncf.Dataset(items), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(items)
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        extra("openvino").save_model(quantised, path, compress_to_fp16=False)
        text, weights = path.read_bytes(), path.with_suffix(".bin").read_bytes()
    # The text names tensors by a counter of the process: what is computed is in the weights.
    kept = Quantised(place, key, hashlib.sha256(weights).hexdigest()[:16])
    content = io.BytesIO()
    np.savez(content, sample=np.asarray(sample), model=_bytes(text), weights=_bytes(weights))
    place.write(kept.name, content.getvalue())
    return kept


def _bytes(content: bytes) -> UInt8[np.ndarray, "byte"]:
    return np.frombuffer(content, np.uint8)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """NNCF reports on the terminal, and makes its class that of every new logger."""
    logger_class, level = logging.getLoggerClass(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with quiet(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)
        logging.setLoggerClass(logger_class)
