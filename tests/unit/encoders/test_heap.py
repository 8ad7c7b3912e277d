"""Freed memory stays with a process that encodes."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from affectgrid.encoders.runtime.heap import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for turn in range(30):
    if turn == 20:  # the first passes have to get their memory
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16, 2**20)  # 64 MB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_kept_memory_is_not_got_again_page_by_page():
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True, text=True).stdout)
        for how in ("kept", "given back")
    )
    assert kept < 100 < given_back
