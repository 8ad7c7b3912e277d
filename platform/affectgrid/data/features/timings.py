"""What encoding took, kept in the store: the newest run of each stream, encoder, arithmetic and kind of device."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable
from typing import Literal

from affectgrid.data.features.report import Cost
from affectgrid.data.features.store import FeatureStore

_FILE = "timings.jsonl"
_ENOUGH = 1000  # units: a shorter run does not replace a longer one
Device = Literal["cpu", "cuda"]


@dataclasses.dataclass(frozen=True)
class Timing:
    """One stream in one run.

    Args:
        stream: visual or audio.
        model: its encoder.
        device: what encoded.
        units: frames or hops.
        decode_s, encode_s: seconds of the processes that did it, added up; loading the encoder is not among them.
        start_s: until a worker of Ray began its first chunk, at most; None where there was no Ray.
        time: ISO 8601, UTC.
        runtime, precision: what the encoder computed by; "" in files of before these were told.
    """

    stream: str
    model: str
    device: Device
    units: int
    decode_s: float
    encode_s: float
    start_s: float | None
    time: str = ""
    runtime: str = ""
    precision: str = ""

    @property
    def cost(self) -> Cost:
        """Seconds of a unit."""
        return Cost(self.decode_s / self.units, self.encode_s / self.units)


def keep_timings(store: FeatureStore, timings: Iterable[Timing]) -> None:
    """Replace those of the same stream, encoder, arithmetic and device, unless by a much shorter run.

    Raises StoreError.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    kept = {_key(timing): timing for timing in read_timings(store)}
    new = {}
    for timing in timings:
        before = kept.get(_key(timing))
        if timing.units and timing.units >= min(_ENOUGH, before.units if before else 0):
            new[_key(timing)] = dataclasses.replace(timing, time=now)
    if new:
        store.write_records([dataclasses.asdict(timing) for timing in (kept | new).values()], _FILE)


def read_timings(store: FeatureStore) -> tuple[Timing, ...]:
    """What the store has. Raises StoreError (STO-DAMAGED)."""
    fields = dataclasses.fields(Timing)
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    known = {field.name for field in fields}
    rows = [row for row in store.read_records(_FILE) if needed <= row.keys()]
    return tuple(Timing(**{name: value for name, value in row.items() if name in known}) for row in rows)


def _key(timing: Timing) -> tuple[str, ...]:
    return timing.stream, timing.model, timing.device, timing.runtime, timing.precision
