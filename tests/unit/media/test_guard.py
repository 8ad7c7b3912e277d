"""Calls that go well through the guarded process; what goes wrong is in tests/faults/test_decode_faults.py."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from affectgrid.errors import ConfigError, MediaError, Problem
from affectgrid.media.guard import GuardedProcess

FUNCTIONS = """
import os
from affectgrid.errors import ConfigError, Problem
def echo(*args, **kwargs): return args, kwargs
def pid(): return os.getpid()
def refuse(): raise ConfigError(Problem("X-1", "here", "a", "b", "c"))
def stumble(): return [][1]
def big(n): import numpy; return numpy.arange(n)
def shout(): print("noise on stdout " * 1000); os.write(1, b"more"); return 1
def modules(): import sys; return sorted(sys.modules)
"""


@pytest.fixture
def guard(tmp_path, monkeypatch):
    (tmp_path / "guarded_functions.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    with GuardedProcess(time_limit_s=20, memory_limit_bytes=512 << 20) as guard:
        yield guard


def test_arguments_and_results_pass_unchanged(guard):
    array = np.arange(12, dtype=np.float16).reshape(3, 4)[:, ::2]
    (args, kwargs) = guard.call("guarded_functions:echo", array, "text", key={"n": None})
    np.testing.assert_array_equal(args[0], array)
    assert args[0].dtype == np.float16
    assert (args[1], kwargs) == ("text", {"key": {"n": None}})


def test_arrays_larger_than_any_pipe_arrive_and_can_be_written(guard):
    array = guard.call("guarded_functions:big", 5_000_000)
    np.testing.assert_array_equal(array[-3:], [4_999_997, 4_999_998, 4_999_999])
    array[0] = 7


def test_one_child_serves_many_calls_and_ends_at_close(guard):
    child = guard.call("guarded_functions:pid")
    assert child != os.getpid()
    assert guard.call("guarded_functions:pid") == child
    guard.close()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert guard.call("guarded_functions:pid") != child


def test_our_errors_come_back_as_they_are_and_the_child_lives_on(guard):
    child = guard.call("guarded_functions:pid")
    with pytest.raises(ConfigError) as caught:
        guard.call("guarded_functions:refuse")
    assert caught.value.problems == (Problem("X-1", where="here", found="a", expected="b", hint="c"),)
    with pytest.raises(MediaError, match=r"MED-FAILED a\.mp4: TypeError"):
        guard.call("guarded_functions:stumble", "a.mp4")
    with pytest.raises(MediaError, match=r"MED-FAILED.*IndexError"):
        guard.call("guarded_functions:stumble")
    with pytest.raises(MediaError, match=r"MED-FAILED.*no_such_module"):
        guard.call("no_such_module:f")
    assert guard.call("guarded_functions:pid") == child


def test_what_a_library_prints_does_not_disturb(guard):
    assert guard.call("guarded_functions:shout") == 1


def test_the_child_is_cheap(guard):
    heavy = {"torch", "ray", "pyarrow", "numpy", "pydantic"}
    assert heavy.isdisjoint(guard.call("guarded_functions:modules"))
    script = "import affectgrid.media.video, affectgrid.media.audio, sys; print({'torch', 'ray'} & set(sys.modules))"
    path = os.pathsep.join(sys.path)
    out = subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": path}, capture_output=True)
    assert out.stdout.strip() == b"set()"
