"""Jobs as a user types them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

QUICK = (
    *("--config.optim.epochs", "2", "--config.model.hidden-dim", "16"),
    *("--config.window.length", "40", "--config.window.stride", "40"),
)  # a training of seconds


def job(repository: Path, name: str, *arguments: object, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"jobs/{name}.py", *map(str, arguments)]
    return subprocess.run(
        command, cwd=repository, capture_output=True, text=True, timeout=timeout_s, env=os.environ | {"COLUMNS": "160"}
    )
