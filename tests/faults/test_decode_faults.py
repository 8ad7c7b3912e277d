"""Decoders that crash, hang or eat memory, and videos cut and flipped, caused for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import av
import numpy as np
import psutil
import pytest

from affectgrid.errors import MediaError
from affectgrid.media.audio import read_audio
from affectgrid.media.frames import FrameReader
from affectgrid.media.guard import GuardedProcess
from affectgrid.media.video import probe_video

FUNCTIONS = """
import ctypes, os, time
from pathlib import Path
from affectgrid.media.frames import FrameReader
from affectgrid.media.video import probe_video

def segfault(path): ctypes.string_at(0)
def abort(path): os.abort()
def leave(path): os._exit(3)
def sleep(path): time.sleep(1000)
def hang_in_c(path):
    Path(path).write_text(str(os.getpid()))
    ctypes.PyDLL(None).pause()  # PyDLL keeps the interpreter's lock: no Python thread or handler runs
def hog(path):
    kept = []
    while True: kept.append(bytearray(16 << 20))
def pid(): return os.getpid()
def count(path):
    info = probe_video(Path(path))
    return info.num_frames, sum(1 for _ in FrameReader(Path(path), info).read(range(info.num_frames)))
"""


@pytest.fixture
def functions(tmp_path, monkeypatch):
    (tmp_path / "faulty_functions.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def guard(functions):
    with GuardedProcess(time_limit_s=20, memory_limit_bytes=256 << 20) as guard:
        yield guard


def refused(guard, function, path="broken.mp4"):
    with pytest.raises(MediaError) as caught:
        guard.call(f"faulty_functions:{function}", path)
    (problem,) = caught.value.problems
    assert problem.where == path
    return problem.code, problem.found


@pytest.mark.parametrize(("function", "cause"), [("segfault", "SIGSEGV"), ("abort", "SIGABRT"), ("leave", "exit 3")])
def test_a_crash_costs_one_call(guard, function, cause):
    before = guard.call("faulty_functions:pid")
    assert refused(guard, function) == ("MED-CRASH", f"the decoder died of {cause}")
    after = guard.call("faulty_functions:pid")
    assert after != before
    assert refused(guard, function)[0] == "MED-CRASH"


@pytest.mark.parametrize("function", ["sleep", "hang_in_c"])
def test_a_hang_ends_at_its_limit_and_leaves_no_process(functions, function, tmp_path):
    with GuardedProcess(time_limit_s=4, memory_limit_bytes=256 << 20) as guard:
        child = guard.call("faulty_functions:pid")
        started = time.monotonic()
        assert refused(guard, function, str(tmp_path / "note"))[0] == "MED-TIMEOUT"
        assert 3.9 < time.monotonic() - started < 30
        assert not psutil.pid_exists(child)
        assert guard.call("faulty_functions:pid") != child


def test_a_memory_hog_is_stopped_at_its_limit(guard):
    child = guard.call("faulty_functions:pid")
    assert refused(guard, "hog") == ("MED-MEMORY", "the decoder ran out of memory")
    assert guard.call("faulty_functions:pid") != child


def test_a_child_killed_from_outside_is_replaced(guard):
    child = guard.call("faulty_functions:pid")
    os.kill(child, signal.SIGKILL)
    assert refused(guard, "sleep") == ("MED-CRASH", "the decoder died of SIGKILL")
    assert guard.call("faulty_functions:pid") != child


def test_a_hanging_child_does_not_outlive_a_killed_parent(functions, tmp_path):
    note = tmp_path / "pid"
    script = f"""
from affectgrid.media.guard import GuardedProcess
GuardedProcess(time_limit_s=1, memory_limit_bytes=256 << 20).call("faulty_functions:hang_in_c", {str(note)!r})
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", script], env=environment)
    while not (note.exists() and note.read_text()):
        assert parent.poll() is None
        time.sleep(0.005)
    child = psutil.Process(int(note.read_text()))
    parent.kill()
    parent.wait()
    psutil.wait_procs([child], timeout=20)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def write_video(path, sound=False):
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"g": "10", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        audio = out.add_stream("aac", rate=16000, layout="mono") if sound else None
        for _ in range(150):
            noise = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        out.mux(stream.encode(None))
        if audio:
            wave = rng.uniform(-0.5, 0.5, (1, 32000)).astype(np.float32)
            block = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            block.sample_rate = 16000
            out.mux(audio.encode(block))
            out.mux(audio.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts"])
def test_cut_and_flipped_videos_never_decode_short_without_an_error(guard, tmp_path, suffix):
    good = write_video(tmp_path / f"good{suffix}").read_bytes()
    rng = np.random.default_rng(1)
    path = tmp_path / f"bad{suffix}"
    refusals = 0
    for trial in range(25):
        data = bytearray(good)
        if trial % 2:
            data = data[: rng.integers(1, len(good) * 7 // 10)]  # of 6 s; up to 1 s is within a header's rounding
        else:
            for offset in rng.integers(0, len(data), 20):
                data[offset] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        try:
            told, decoded = guard.call("faulty_functions:count", str(path))
        except MediaError:
            refusals += 1
        else:
            assert decoded == told
            # a transport stream has no header that tells its length; it may end early, and the labels will tell
            assert suffix == ".ts" or trial % 2 == 0
    assert refusals > 0


def test_damaged_sound_leaves_the_pictures(tmp_path):
    path = write_video(tmp_path / "v.mp4", sound=True)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        spans = [(p.pos, p.size, float(p.pts * p.time_base)) for p in container.demux(audio=0) if p.size]
    rng = np.random.default_rng(0)
    for pos, size, time_s in spans:
        if 0.5 < time_s < 1.5:
            data[pos : pos + size] = rng.bytes(size)
    path.write_bytes(data)
    info = probe_video(path)
    assert info.audio is not None
    assert len(list(FrameReader(path, info).read(range(info.num_frames)))) == 150
    sound, present = read_audio(path, 0, 2)
    assert np.isfinite(sound).all()
    assert present[: round(0.4 * 16000)].all()
    assert present[round(1.7 * 16000) :].mean() > 0.8
    assert not present[round(0.6 * 16000) : round(1.4 * 16000)].all()
    assert not sound[~present].any()
