"""A model that several files of tests use."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.jobs import QUICK, job


@pytest.fixture(scope="session")
def trained(repository: Path, rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The --out folder of a short training run on the small corpus."""
    out = tmp_path_factory.mktemp("out")
    done = job(repository, "train", "--data", rendered, "--out", out, "--name", "quick", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "Kept epoch on the validation split" in done.stdout
    assert (out / "runs" / "quick" / "model" / "model.safetensors").exists()
    return out
