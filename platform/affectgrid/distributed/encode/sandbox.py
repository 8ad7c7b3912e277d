"""Media calls from Ray's workers, through one guarded process per worker. Imports no torch: probing starts at once."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from pathlib import Path
from typing import Any

from affectgrid.errors import MediaError
from affectgrid.media.chunks import probe
from affectgrid.media.guard import GuardedProcess
from affectgrid.media.sampling import Source
from affectgrid.storage import staged

_TRANSIENT = frozenset({"MED-CRASH", "MED-TIMEOUT", "MED-MEMORY"})

# Files that this worker has given up on, by run, function and path.
_given_up: dict[tuple[str, str, object], MediaError] = {}


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one chunk may cost before its video goes into quarantine.

    Args:
        time_s, memory_bytes: for one call.
        tries: calls that may crash, hang or run out of memory on one file, in each worker and run.
        run: names the run; another run tries again what this one has given up on.
    """

    time_s: float
    memory_bytes: int
    tries: int
    run: str = ""


@functools.lru_cache(maxsize=1)
def _guard(limits: Limits) -> GuardedProcess:
    """One decoding process per worker and run, for it remembers what it has looked up; restarted after a crash."""
    return GuardedProcess(time_limit_s=limits.time_s, memory_limit_bytes=limits.memory_bytes)


def guarded(limits: Limits, function: Any, *arguments: Any, **options: Any) -> Any:
    """Call a function of ``affectgrid.media`` in the decoding process; MediaError after ``limits.tries`` failures.

    A file that was given up on is refused at once from then on: a two-hour film that hangs its decoder costs a few time
    limits, not one for each of its chunks.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    file = (limits.run, name, next((value for value in arguments if isinstance(value, str)), arguments))
    if file in _given_up:
        raise _given_up[file]
    for attempt in range(1, limits.tries + 1):
        try:
            with contextlib.ExitStack() as stack:  # files of a bucket are copied to this node, and stay while in use
                local = [str(stack.enter_context(staged(Path(v)))) if isinstance(v, str) else v for v in arguments]
                return _guard(limits).call(name, *local, **options)
        except MediaError as error:
            # A file that is refused is refused again; a crash or a time-out may have been the machine's fault.
            transient = error.problems[0].code in _TRANSIENT
            if transient and attempt == limits.tries:
                _given_up[file] = error
            if attempt == limits.tries or not transient:
                raise
    raise AssertionError("limits.tries is at least 1")


def probe_track(limits: Limits, video: str | None, crops: str | None) -> Source:
    """What a track holds, looked up in the guarded process."""
    source: Source = guarded(limits, probe, video, crops)
    return source
