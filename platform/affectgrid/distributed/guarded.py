"""Media calls from Ray's workers, through one guarded process per worker. Imports no torch: probing starts at once."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from affectgrid.errors import MediaError
from affectgrid.media.chunks import Source, probe
from affectgrid.media.guard import GuardedProcess


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one chunk may cost before its video goes to quarantine."""

    time_s: float
    memory_bytes: int
    tries: int


@functools.cache
def _guard(limits: Limits) -> GuardedProcess:
    """One decoding process for the life of this worker; it is restarted after a crash."""
    return GuardedProcess(time_limit_s=limits.time_s, memory_limit_bytes=limits.memory_bytes)


def guarded(limits: Limits, function: Any, *arguments: Any, **options: Any) -> Any:
    """Call a function of ``affectgrid.media`` in the decoding process; MediaError after ``limits.tries`` failures."""
    for attempt in range(1, limits.tries + 1):
        try:
            return _guard(limits).call(f"{function.__module__}:{function.__qualname__}", *arguments, **options)
        except MediaError as error:
            # A file that is refused is refused again; a crash or a time-out may have been the machine's fault.
            transient = error.problems[0].code in {"MED-CRASH", "MED-TIMEOUT", "MED-MEMORY"}
            if attempt == limits.tries or not transient:
                raise
    raise AssertionError("limits.tries is at least 1")


def probe_track(limits: Limits, video: str | None, crops: str | None) -> Source:
    """What a track holds, looked up in the guarded process."""
    source: Source = guarded(limits, probe, video, crops)
    return source
