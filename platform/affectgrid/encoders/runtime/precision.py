"""The number type that an encoder computes with: what the hardware has, what is tolerated, and the rule of ``auto``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from affectgrid.settings import RuntimeName

Resolved = Literal["fp32", "bf16", "fp16", "int8"]

# The lowest cosine with torch's float32 features that is tolerated: below it this is another encoder.
MIN_COSINE: dict[Resolved, float] = {"fp32": 0.9999, "bf16": 0.999, "fp16": 0.999, "int8": 0.99}
# A smaller model is done before rounding could save anything, and its features stay the same on every machine.
MIN_PARAMETERS_TO_ROUND = 10_000_000
# Half must be this much faster to be taken unasked: on a Xeon with avx512_bf16 but no amx, bf16 takes 1.7 x as long.
MIN_SPEEDUP = 1.15
_CANDIDATES: tuple[Resolved, ...] = ("fp32", "bf16", "fp16")  # what ``auto`` may come to
_CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86 twice, and Arm


def resolve_auto(
    half: Resolved, num_parameters: int, *, is_stored: Callable[[Resolved], bool], pays: Callable[[Resolved], bool]
) -> Resolved:
    """What ``auto`` comes to; int8 is never taken unasked.

    What is encoded stays encoded; else a large model is computed in the hardware's half type where that pays (it keeps
    its cosine and is faster); else in float32.
    """
    if known := next(filter(is_stored, _CANDIDATES), None):
        return known
    return half if half != "fp32" and num_parameters >= MIN_PARAMETERS_TO_ROUND and pays(half) else "fp32"


def native_half(device: torch.device) -> Resolved:
    """The half type that the device computes with at speed; ``fp32`` where it has none."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        return "bf16" if _CPU_FLAGS & _cpu_flags() else "fp32"
    return "fp32"


def label(runtime: RuntimeName, precision: Resolved, model: str = "") -> str:
    """What names a runtime's arithmetic, torch's by the precision alone; `model` is the digest of a quantised model."""
    return precision if runtime == "torch" else " ".join(filter(None, [runtime, precision, model]))


def digest_in(weights: str, label: str) -> str:
    """The digest of weights, given by their own digest, in a runtime's arithmetic: what names an encoder's features."""
    return hashlib.sha256(f"{weights} {label}".encode()).hexdigest()


def _cpu_flags() -> set[str]:
    """The processor's features as Linux names them; none elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split(":")[1].split()}
