"""The runtime and the precision of an encoder: opened as they are asked for, judged on a sample, or chosen."""

from __future__ import annotations

import copy
import functools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from affectgrid.encoders.runtime.batches import Batches
from affectgrid.encoders.runtime.interface import Encoder, Runtime
from affectgrid.encoders.runtime.openvino_runtime import OpenVINORuntime, convert
from affectgrid.encoders.runtime.precision import (
    MIN_COSINE,
    MIN_SPEEDUP,
    Resolved,
    digest_in,
    label,
    native_half,
    resolve_auto,
)
from affectgrid.encoders.runtime.quantised import Quantised, find, key_of, quantise
from affectgrid.encoders.runtime.torch_runtime import TorchRuntime
from affectgrid.errors import ModelError, Problem
from affectgrid.settings import Precision, RuntimeName
from affectgrid.storage import Storage

log = logging.getLogger(__name__)

_NUM_EXAMPLES = 2  # in the batch that a network is traced on
_CALIBRATE_EVERY = 2
_BATCH = 8  # of long windows more would not fit


def open_runtime(
    runtime: RuntimeName,
    precision: Resolved,
    network: nn.Module,
    inputs: Callable[[], tuple[Tensor, ...]],
    quantised: Quantised | None = None,
) -> Runtime:
    """A runtime for a network, which torch's rounds in place; `inputs` gives an example of what it takes.

    `quantised` is the network in int8, which that precision needs.
    """
    if runtime == "torch":
        return TorchRuntime(network, precision)
    if quantised is not None:
        return OpenVINORuntime(quantised.open(), precision, digest=quantised.digest)
    return OpenVINORuntime(convert(network, [value[:_NUM_EXAMPLES] for value in inputs()]), precision)


def choose(
    encoder: Encoder,
    runtime: RuntimeName,
    precision: Precision,
    *,
    sample: Callable[[], Any | None] = lambda: None,
    half: Resolved | None = None,
    stored: Callable[[str], bool] = lambda _: False,
    places: Sequence[Storage] = (),
) -> Quantised | None:
    """Give an encoder the runtime and precision that are asked for, once its features are seen to keep their cosine.

    Args:
        encoder: as `load_visual` and `load_audio` give it by default.
        runtime, precision: what is asked for; for ``auto`` see `resolve_auto`.
        sample: real pictures, or windows of sound, to measure on; None: drawn ones.
        half: what ``auto`` takes; by default the half type of the encoder's device. A head without a GPU chooses for
            its workers, and what is fast there cannot be measured here.
        stored: whether features of an encoder of this digest are stored already.
        places: where int8 models are kept: looked for in each, made in the last one, from every second sample.

    Returns the int8 model, where that was asked for: other processes open the same. Raises ModelError: MOD-PRECISION
    where a precision that was asked for is below its cosine, or int8 has no real sample; MOD-RUNTIME, MOD-CONVERT.
    """
    trial = _Trial(encoder, runtime, sample, places)
    size = sum(parameter.numel() for parameter in encoder.network.parameters())

    def is_stored(known: Resolved) -> bool:
        return stored(digest_in(encoder.weights, label(runtime, known)))

    def pays(wanted: Resolved) -> bool:
        return trial.keeps_cosine(wanted) and (half is not None or trial.is_faster(wanted))

    if precision == "auto":
        resolved = resolve_auto(half or native_half(encoder.device), size, is_stored=is_stored, pays=pays)
    else:
        resolved = precision
        if not trial.keeps_cosine(resolved):
            found = f"{resolved} features at cosine {trial.cosine(resolved):.5f} of the fp32 ones"
            raise _refused(encoder.name, found, f"at least {MIN_COSINE[resolved]}")
    encoder.runtime = trial.opened(resolved)
    return trial.quantised if resolved == "int8" else None


class _Trial:
    """An encoder in several precisions, each opened when it is asked for, on one sample."""

    def __init__(
        self, encoder: Encoder, runtime: RuntimeName, sample: Callable[[], Any | None], places: Sequence[Storage]
    ) -> None:
        self._encoder, self._runtime, self._places = encoder, runtime, places
        self._real = functools.cache(sample)
        self._opened: dict[Resolved, Runtime] = {"fp32": encoder.runtime} if runtime == "torch" else {}
        self._cosines: dict[Resolved, float] = {}

    @functools.cached_property
    def _inputs(self) -> tuple[Tensor, ...]:
        real = self._real()
        return self._encoder.inputs(self._encoder.drawn() if real is None else real)

    @functools.cached_property
    def _reference(self) -> Tensor:
        return self._features(self._encoder.runtime)

    def _features(self, runtime: Runtime) -> Tensor:
        """Of the whole sample, in float32 on the processor."""
        batches = Batches(self._encoder.device, _BATCH)
        return batches.run(len(self._inputs[0]), lambda part: runtime(*(value[part] for value in self._inputs)))

    def opened(self, precision: Resolved) -> Runtime:
        if precision not in self._opened:
            network = self._encoder.network
            self._opened[precision] = open_runtime(
                self._runtime,
                precision,
                copy.deepcopy(network) if self._runtime == "torch" else network,  # the original stays in float32
                lambda: self._inputs,
                self.quantised if precision == "int8" else None,
            )
        return self._opened[precision]

    @functools.cached_property
    def quantised(self) -> Quantised:
        """The encoder in int8, made if it is not kept yet."""
        if (real := self._real()) is None:
            found, expected = "nothing that could be read", "pictures, or sound, to calibrate int8 on"
            raise _refused(self._encoder.name, found, expected)
        key = key_of(self._encoder.weights, self._inputs)
        if known := find(self._places, key):
            return known
        half = [value[::_CALIBRATE_EVERY] for value in self._inputs]  # the cosine is measured on the others, too
        return quantise(self._encoder.network, half, real[::_CALIBRATE_EVERY], self._places[-1], key)

    def cosine(self, precision: Resolved) -> float:
        """The lowest of the sample's, with torch's float32 features."""
        if self.opened(precision) is self._encoder.runtime:
            return 1.0
        if precision not in self._cosines:
            features = self._features(self.opened(precision))
            cosines = nn.functional.cosine_similarity(features, self._reference, dim=-1)
            self._cosines[precision] = lowest = float(cosines.min())
            what = f"{self._encoder.name} by {self._runtime} in {precision}"
            log.info("%s: cosine %.5f of its fp32 features on %d samples", what, lowest, len(cosines))
        return self._cosines[precision]

    def keeps_cosine(self, precision: Resolved) -> bool:
        kept = self.cosine(precision) >= MIN_COSINE[precision]
        if not kept:
            log.warning("%s: %s features have a cosine of %.5f", self._encoder.name, precision, self.cosine(precision))
        return kept

    def is_faster(self, precision: Resolved) -> bool:
        """Whether it is at least `MIN_SPEEDUP` times as fast as float32 here."""
        speedup = self._seconds("fp32") / self._seconds(precision)
        log.info("%s: %s is %.2f x as fast as fp32 here", self._encoder.name, precision, speedup)
        return speedup >= MIN_SPEEDUP

    def _seconds(self, precision: Resolved) -> float:
        """The shorter of two calls."""
        taken = []
        for _ in range(2):
            started = time.perf_counter()
            self._features(self.opened(precision))
            taken.append(time.perf_counter() - started)
        return min(taken)


def _refused(name: str, found: str, expected: str) -> ModelError:
    hint = "encode with precision fp32 or auto"
    return ModelError(Problem("MOD-PRECISION", where=name, found=found, expected=expected, hint=hint))
