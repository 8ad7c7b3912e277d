"""The type of an encoder's weights: which half type the hardware has, and whether a model tolerates it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from affectgrid.errors import ModelError, Problem
from affectgrid.settings import Precision

log = logging.getLogger(__name__)

Resolved = Literal["fp32", "bf16", "fp16"]

DTYPES: dict[Resolved, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MIN_COSINE = 0.999  # below this the rounded weights are another encoder
# A smaller model is done before rounding could save anything, and its features stay the same on every machine.
MIN_PARAMETERS_TO_ROUND = 10_000_000
# Half must be this much faster to be taken unasked: on a Xeon with avx512_bf16 but no amx, bf16 takes 1.7 x as long.
MIN_SPEEDUP = 1.15
_CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86 twice, and Arm


def native_half(device: torch.device) -> Resolved:
    """The half type that the device computes with at speed; ``fp32`` where it has none."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        return "bf16" if _CPU_FLAGS & _cpu_flags() else "fp32"
    return "fp32"


def settle(
    precision: Precision,
    module: nn.Module,
    encode: Callable[[], Float[Tensor, "n dim"]],
    *,
    name: str,
    device: torch.device,
    half: Resolved | None = None,
    check: bool = True,
) -> Resolved:
    """Round a model's weights in place, if that is asked for and harmless. Returns their precision.

    Args:
        precision: ``auto`` takes the device's half type for a large model, and goes back to float32 when the cosine is
            too small, or when half is not faster here; the others are taken at their word.
        encode: encodes a calibration batch by `module` as it is at the time of the call.
        name: of the model, for messages.
        device: where it runs.
        half: what ``auto`` takes; by default the half type of `device`. A head without a GPU settles for its workers,
            and what is fast there cannot be measured here.
        check: False takes a precision that was settled before as it is.

    Raises ModelError (MOD-PRECISION) when the features of a precision that was asked for keep no cosine of .999.
    """
    wanted: Resolved = precision if precision != "auto" else half or native_half(device)
    size = sum(parameter.numel() for parameter in module.parameters())
    if wanted == "fp32" or (precision == "auto" and size < MIN_PARAMETERS_TO_ROUND):
        return "fp32"
    if not check:
        module.to(DTYPES[wanted])
        return wanted
    reference, kept = encode(), {key: value.clone() for key, value in module.state_dict().items()}
    timed = precision == "auto" and half is None
    full_s = _seconds(encode) if timed else 0.0
    module.to(DTYPES[wanted])
    rounded = encode()
    speedup = full_s / _seconds(encode) if timed else MIN_SPEEDUP
    cosine = float(nn.functional.cosine_similarity(rounded, reference, dim=-1).min())
    log.info("%s in %s: cosine %.5f of its fp32 features on %d samples", name, wanted, cosine, len(reference))
    if cosine >= MIN_COSINE and speedup >= MIN_SPEEDUP:
        return wanted
    if precision == "auto":
        if cosine < MIN_COSINE:
            log.warning("%s stays in fp32: its %s features have a cosine of %.5f", name, wanted, cosine)
        else:
            log.info("%s stays in fp32: %s is %.2f x as fast here", name, wanted, speedup)
        module.float().load_state_dict(kept)
        return "fp32"
    raise ModelError(
        Problem(
            "MOD-PRECISION",
            where=name,
            found=f"{wanted} features at cosine {cosine:.4f} of the fp32 ones",
            expected=f"at least {MIN_COSINE}",
            hint="encode with precision fp32 or auto",
        )
    )


def digest_in(weights: str, precision: Precision) -> str:
    """The digest of weights, given by their own digest, in a precision: what names an encoder's features."""
    return hashlib.sha256(f"{weights} {precision}".encode()).hexdigest()


def recalled(precision: Precision, weights: str, stored: Callable[[str], bool]) -> Resolved | None:
    """What ``auto`` came to before, where `stored` knows of features by the digest of one; None: it has to be settled.

    Another machine, or the same one on a busier day, may find something else faster. What is encoded stays encoded.
    """
    if precision != "auto":
        return None
    return next((known for known in DTYPES if stored(digest_in(weights, known))), None)


def _seconds(encode: Callable[[], object]) -> float:
    """The shorter of two calls."""
    taken = []
    for _ in range(2):
        started = time.perf_counter()
        encode()
        taken.append(time.perf_counter() - started)
    return min(taken)


def to_device(batch: Tensor, device: torch.device) -> Tensor:
    """A batch on the device. To a GPU it goes through pinned memory, and the copy runs beside the computation."""
    if device.type != "cuda":
        return batch.to(device)
    return batch.pin_memory().to(device, non_blocking=True)


def _cpu_flags() -> set[str]:
    """The processor's features as Linux names them; none elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split(":")[1].split()}
