"""What needs CUDA. Without a GPU all of it is skipped, and said so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip where there is nothing to run on."""
    missing = pytest.mark.skip(reason="no GPU that torch can use on this machine")
    for item in items:
        if Path(__file__).parent in item.path.parents and not torch.cuda.is_available():
            item.add_marker(missing)
