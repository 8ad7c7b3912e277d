"""One small run keeps its scores; `make golden` writes them anew after a change that is meant to move them."""

from __future__ import annotations

import json

import pytest
import torch

from golden.run import golden_scores

# Other CPUs sum in another order. `make golden` measures how far other kernels and two threads move any score (it is
# noted beside the scores); a change of the method moves them by hundredths.
TOLERANCE = 1e-4


def test_the_golden_run_has_its_scores(repository):
    torch.set_num_threads(1)
    golden = json.loads((repository / "tests" / "golden" / "scores.json").read_text())
    assert 20 * max(golden["moved_by_arithmetic"].values()) < TOLERANCE
    found = golden_scores()
    assert set(found) == set(golden["scores"])
    for name, values in golden["scores"].items():
        assert found[name] == pytest.approx(values, abs=TOLERANCE), name
