"""Encode one film and print the peak memory of the whole process tree in bytes.

python memory_driver.py FOLDER STORE FRAME_RATE_HZ
"""

from __future__ import annotations

import contextlib
import sys
import threading
from pathlib import Path

import psutil

from affectgrid.data.catalog import read_folder
from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.distributed.cluster import connect
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.run import encode


def tree_bytes() -> int:
    """Proportional set size of this process and everything that it started: shared pages count once."""
    total, me = 0, psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


def main() -> None:
    folder, store, rate_hz = sys.argv[1:]
    peak, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            peak[0] = max(peak[0], tree_bytes())

    watcher = threading.Thread(target=watch)
    with connect("local", num_cpus=2):
        watcher.start()
        config = EncodeConfig(
            visual=VisualStream(crop="frame", frame_rate_hz=float(rate_hz)), audio=AudioStream(hop_s=10.0)
        )
        report = encode(read_folder(Path(folder)), Path(store), config)
        over.set()
        watcher.join()
    if report.quarantined:
        raise SystemExit(str(report.quarantined))
    print(peak[0])


main()
