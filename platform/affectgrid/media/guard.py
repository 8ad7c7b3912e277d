"""A child process for decoders: a crash, a hang or excessive memory costs that call, not the worker."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import pickle
import resource
import select
import signal
import struct
import subprocess
import sys
import time
import traceback
from typing import Any

from affectgrid.errors import AffectGridError, MediaError, Problem

_PIPE_BYTES = 1 << 20  # the largest that an unprivileged process may ask for
_START = "from affectgrid.media.guard import serve; serve({request}, {reply}, {memory}, {seconds})"


class GuardedProcess:
    """Calls functions by import path in a child interpreter that outlives the calls, one at a time.

    Arrays travel as raw buffers, not as pickled copies. The child imports nothing but what is called, and ends with its
    parent. Not safe for use from several threads at once.

    Args:
        time_limit_s: for one call; the child is killed then.
        memory_limit_bytes: private memory that the child may map beyond what a bare interpreter has.
    """

    def __init__(self, *, time_limit_s: float, memory_limit_bytes: int) -> None:
        self._time_limit_s, self._memory_limit_bytes = time_limit_s, memory_limit_bytes
        self._child: subprocess.Popen[bytes] | None = None
        self._request = self._reply = -1

    def run(self, function: str, *args: Any, **kwargs: Any) -> None:
        """As `call`, for what it raises alone: the result stays in the child."""
        self._ask(function, args, kwargs, wanted=False)

    def call(self, function: str, *args: Any, **kwargs: Any) -> Any:
        """Run ``module:function`` with picklable arguments and return its result.

        An AffectGridError of the function is raised as it is. Raises MediaError: MED-CRASH (a signal, an exit),
        MED-TIMEOUT, MED-MEMORY, MED-FAILED (any other exception). The child is replaced after the first three.
        """
        return self._ask(function, args, kwargs, wanted=True)

    def _ask(self, function: str, args: tuple[Any, ...], kwargs: dict[str, Any], *, wanted: bool) -> Any:
        where = next((str(a) for a in args if isinstance(a, str | os.PathLike)), function)
        deadline = time.monotonic() + self._time_limit_s
        try:
            if self._child is None:
                self._spawn()
                deadline = time.monotonic() + self._time_limit_s
            _send(self._request, (function, args, kwargs, wanted))
            kind, value = _receive(self._reply, deadline)
        except TimeoutError:
            self.close()
            found, expected = "still decoding", f"an end within {self._time_limit_s:g} s"
            raise MediaError(Problem("MED-TIMEOUT", where=where, found=found, expected=expected, hint=_MEND)) from None
        except (EOFError, BrokenPipeError):
            raise MediaError(
                Problem(
                    "MED-CRASH",
                    where=where,
                    found=f"the decoder died of {self._cause()}",
                    expected="a result",
                    hint=_MEND,
                )
            ) from None
        except BaseException:  # Ctrl-C between request and reply: the pipe holds half a message
            self.close()
            raise
        if kind == "result":
            return value
        if kind == "memory":
            self.close()  # what is left of its heap is in pieces
            found, expected = "the decoder ran out of memory", f"at most {self._memory_limit_bytes / 2**20:.0f} MiB"
            raise MediaError(Problem("MED-MEMORY", where=where, found=found, expected=expected, hint=_MEND))
        if kind == "error":
            raise value
        raise MediaError(Problem("MED-FAILED", where=where, found=value, expected="a result", hint=_MEND))

    def close(self) -> None:
        """End the child. The next call starts another."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            os.close(self._request)
            os.close(self._reply)

    def __enter__(self) -> GuardedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def _spawn(self) -> None:
        their_request, self._request = os.pipe()
        self._reply, their_reply = os.pipe()
        code = _START.format(
            request=their_request, reply=their_reply, memory=self._memory_limit_bytes, seconds=self._time_limit_s
        )
        # The parent's own path: under Ray the package comes from an upload, not from an installation.
        path = os.pathsep.join(entry or os.curdir for entry in sys.path)
        # One thread: several guarded children share a machine, and thread stacks count as memory.
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            self._child = subprocess.Popen(  # noqa: S603 - this interpreter, and code from this file
                [sys.executable, "-c", code],
                pass_fds=(their_request, their_reply),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        finally:
            os.close(their_request)
            os.close(their_reply)
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(self._reply, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        if _receive(self._reply, time.monotonic() + _START_LIMIT_S) != "ready":
            raise EOFError

    def _cause(self) -> str:
        """How the child ended, in words; it is gone afterwards."""
        if self._child is None:
            return "an unknown cause"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(5)
        code = self._child.poll()
        self.close()
        if code is None or code >= 0:
            return f"exit {code}"
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"


_MEND = "leave the file out, copy it again, or raise the limit"
_START_LIMIT_S = 60.0


def serve(request: int, reply: int, memory_limit_bytes: int, time_limit_s: float) -> None:
    """The child's loop: answer calls until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_DATA):
        _, most = resource.getrlimit(limit)
        wanted = 0 if limit == resource.RLIMIT_CORE else memory_limit_bytes + _private_bytes()
        resource.setrlimit(limit, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
    _send(reply, "ready")
    while True:
        try:
            function, args, kwargs, wanted = _receive(request, None)
        except EOFError:
            return
        # The kernel's own timer ends a hanging child whose parent was killed; in C code nothing else would.
        signal.setitimer(signal.ITIMER_REAL, time_limit_s + 1)
        answer = _answer(function, args, kwargs)
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            _send(reply, answer if wanted or answer[0] != "result" else ("result", None))
        except MemoryError:
            _send(reply, ("memory", None))


def _answer(function: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, Any]:
    try:
        module, _, name = function.partition(":")
        return "result", getattr(importlib.import_module(module), name)(*args, **kwargs)
    except MemoryError:
        return "memory", None
    except AffectGridError as error:
        if any(problem.code == "MED-MEMORY" for problem in error.problems):
            return "memory", None
        return "error", error
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return "failed", f"{type(error).__name__}: {error} ({last.name}, line {last.lineno})"


def _private_bytes() -> int:
    """Private writable memory of this process now: what RLIMIT_DATA counts."""
    try:
        with open("/proc/self/status") as status:  # noqa: PTH123 - pathlib is not imported in the child
            for line in status:
                if line.startswith("VmData"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 1 << 28


def _send(pipe: int, message: object) -> None:
    """Frame a message: sizes of the pickle and of its out-of-band buffers, then their bytes."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    bodies = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    _write(pipe, memoryview(struct.pack(f"<I{len(bodies)}Q", len(bodies), *(body.nbytes for body in bodies))))
    for body in bodies:
        _write(pipe, body)


def _write(pipe: int, data: memoryview) -> None:
    while data.nbytes:
        data = data[os.write(pipe, data) :]


def _receive(pipe: int, deadline: float | None) -> Any:
    """The next message. Raises EOFError when the other side is gone, TimeoutError at the deadline."""
    (count,) = struct.unpack("<I", _read(pipe, 4, deadline))
    sizes = struct.unpack(f"<{count}Q", _read(pipe, 8 * count, deadline))
    head, *buffers = [_read(pipe, size, deadline) for size in sizes]
    return pickle.loads(head, buffers=buffers)  # noqa: S301 - from our own child


def _read(pipe: int, size: int, deadline: float | None) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view.nbytes:
        wait_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([pipe], [], [], wait_s)[0]:
            raise TimeoutError
        count = os.readv(pipe, [view])
        if count == 0:
            raise EOFError
        view = view[count:]
    return data
