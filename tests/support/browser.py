"""Pages in a headless browser: what they hold once their scripts have run, and what they complain of."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0")


def open_page(page: Path, profile: Path, *, width_px: int = 1200) -> tuple[str, list[str]]:
    """The page's elements, and the lines of its console."""
    command = [str(BROWSER), *_OPTIONS, f"--user-data-dir={profile}", f"--window-size={width_px},1000"]
    command += ["--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
