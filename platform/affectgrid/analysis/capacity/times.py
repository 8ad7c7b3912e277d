"""How long a frame and a window of sound take: measured by an earlier run, told by hand, or a stated default."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from affectgrid.analysis.capacity.options import StreamTimes
from affectgrid.data.features.report import Cost
from affectgrid.data.features.timings import Device, Timing
from affectgrid.errors import ConfigError, Problem

_XEON = "one core of a 4th generation Xeon, docs/benchmarks.md"
_ESTIMATE = "an estimate, docs/planning.md"
VIT_CPU_S, VIT_L4_S, AST_OVER_VIT = 0.066, 1 / 3600, 24
# By stream, encoder and device: seconds of a unit, and where they come from.
ENCODING: dict[tuple[str, str, Device], tuple[float, str]] = {
    ("visual", "vit-b-32", "cpu"): (VIT_CPU_S, f"measured on {_XEON}"),
    ("visual", "vit-b-32", "cuda"): (VIT_L4_S, f"an L4, {_ESTIMATE}"),
    ("audio", "ast", "cpu"): (AST_OVER_VIT * VIT_CPU_S, f"{AST_OVER_VIT} times a picture's, {_ESTIMATE}"),
    ("audio", "ast", "cuda"): (AST_OVER_VIT * VIT_L4_S, f"{AST_OVER_VIT} times a picture's on an L4, {_ESTIMATE}"),
}
DECODING = {
    "visual": (0.0044, f"480p, measured on {_XEON}"),
    "audio": (0.00015, "measured on one core of an EPYC (Zen 4), docs/planning.md"),
}


@dataclasses.dataclass(frozen=True)
class Times:
    """What a unit of a stream takes, and where each number comes from."""

    cost: Cost
    decode_source: str
    encode_source: str


def find_times(stream: str, asked: StreamTimes, device: Device, measured: Sequence[Timing]) -> Times:
    """By hand before the newest measured before default. Raises ConfigError (CFG-TIMES) where nothing is known."""
    own = max((one for one in measured if _answers(one, stream, asked, device)), key=lambda one: one.time, default=None)
    said = f"measured by the run of {own.time[:10]} ({own.units:,} units{_computed(own)})" if own else ""
    decode_s, decode_source = (own.cost.decode_s, said) if own else DECODING[stream]
    encode = (own.cost.encode_s, said) if own else _default(stream, asked.model, device)
    if asked.decode_ms is not None:
        decode_s, decode_source = asked.decode_ms / 1000, "given"
    if asked.encode_ms is not None:
        encode = (asked.encode_ms / 1000, "given")
    if encode is None:
        known = ", ".join(sorted({name for kind, name, _ in ENCODING if kind == stream}))
        raise ConfigError(
            Problem(
                "CFG-TIMES",
                where=f"{stream}.model",
                found=f"{asked.model!r} on {device}, of which no time is known",
                expected=f"an encoder whose time was measured, or one of {known}",
                hint=f"encode something with it and give that store as --store, or give --{stream}.encode-ms",
            )
        )
    return Times(Cost(decode_s, encode[0]), decode_source, encode[1])


def _answers(one: Timing, stream: str, asked: StreamTimes, device: Device) -> bool:
    same = (one.stream, one.model, one.device) == (stream, asked.model, device)
    return same and asked.precision in (None, one.precision) and asked.runtime in (None, one.runtime)


def _computed(one: Timing) -> str:
    return f", {one.runtime} in {one.precision}" if one.precision else ""


def _default(stream: str, model: str, device: Device) -> tuple[float, str] | None:
    """By the beginning of the last part of the encoder's name: ``MIT/ast-finetuned-...`` is an AST."""
    parts = model.lower().split("/")
    for (kind, name, own), found in ENCODING.items():
        if kind == stream and own == device and any(part.startswith(name) for part in parts):
            return found
    return None
