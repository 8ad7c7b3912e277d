"""What the tests of faults share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from affectgrid.tracking import delivery
from support.mlflow_server import MlflowServer


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    monkeypatch.setenv("AFFECTGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(delivery, "_RETRY_AFTER_S", 0.0)
    with MlflowServer(tmp_path) as running:
        yield running
