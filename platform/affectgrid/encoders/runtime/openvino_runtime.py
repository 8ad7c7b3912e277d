"""A network by OpenVINO on the processor: float32, bfloat16, or int8 after `quantised` has rounded it.

OpenVINO is an extra, so it is imported only where it is asked for.
"""

from __future__ import annotations

import importlib
import platform
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from affectgrid.encoders.runtime.precision import Resolved, label, native_half
from affectgrid.encoders.towers.quiet import quiet
from affectgrid.errors import ModelError, Problem

# What is not quantised in an int8 model stays in float32, which every processor has.
_HINTS: dict[Resolved, str] = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVINORuntime:
    """Computes with a compiled model, on as many threads as torch has here."""

    def __init__(self, model: Any, precision: Resolved, *, digest: str = "") -> None:
        """Compile an `openvino.Model`; `digest` is that of a quantised one.

        Raises ModelError (MOD-RUNTIME) without OpenVINO, and for bf16 where the processor lacks it: OpenVINO would
        compute in float32 and not say so.
        """
        if precision == "bf16" and native_half(torch.device("cpu")) != "bf16":
            found, expected = "bf16 on a processor without it", "avx512_bf16, amx_bf16 or Arm's bf16"
            raise ModelError(
                Problem("MOD-RUNTIME", where="openvino", found=found, expected=expected, hint="take precision fp32")
            )
        self.precision = precision
        self.label = label("openvino", precision, digest)
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # else the processes of a node would all pin themselves to the same core
        }
        self._request = extra("openvino").Core().compile_model(model, "CPU", settings).create_infer_request()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Features in float32 on the processor."""
        given = {number: value.contiguous().numpy() for number, value in enumerate(inputs)}
        return torch.from_numpy(self._request.infer(given, share_inputs=True)[0])


def convert(network: nn.Module, example: Sequence[Tensor]) -> Any:
    """An `openvino.Model` of a network in float32, traced on example inputs [n, ...]; the batch size stays open.

    Raises ModelError: MOD-RUNTIME without OpenVINO, MOD-CONVERT where it cannot take the network.
    """
    openvino = extra("openvino")
    shapes = [openvino.PartialShape([-1, *value.shape[1:]]) for value in example]
    try:
        with quiet(), warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # torch's tracer, and of what it makes a constant: choice compares
            return openvino.convert_model(network, example_input=tuple(example), input=shapes)
    except Exception as error:  # OpenVINO and torch's tracer raise many kinds
        found = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        expected, hint = "a network that OpenVINO can convert", "take runtime torch"
        raise ModelError(Problem("MOD-CONVERT", where="openvino", found=found, expected=expected, hint=hint)) from error


def extra(name: str) -> ModuleType:
    """OpenVINO or NNCF. Raises ModelError (MOD-RUNTIME) where the extra is not installed.

    Both report their use to their maker unless openvino_telemetry is missing, so it is made so.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(
            Problem(
                "MOD-RUNTIME",
                where=f"encode: runtime openvino on {platform.node()}",
                found=str(error),
                expected="openvino and nncf on every node",
                hint="pip install 'affectgrid[openvino]' there, or take runtime torch",
            )
        ) from error
