"""Train the golden run and write its scores: `make golden`. Only after a change that is meant to move them.

The run is trained once more for every set of instructions that this CPU has and with two threads, and the largest
difference in any score is printed and written: what another machine may bring. The test's tolerance stands on it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).with_name("scores.json")
# Other kernels, other orders of summation: what differs between machines.
_VARIANTS = {
    "plain kernels": {"ATEN_CPU_CAPABILITY": "default", "DNNL_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
    "AVX2 kernels": {"ATEN_CPU_CAPABILITY": "avx2", "DNNL_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"},
    "two threads": {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
}
_PROGRAM = "import json; from golden.run import golden_scores; print(json.dumps(golden_scores()))"


def scores(**environment: str) -> dict[str, list[float]]:
    """Of the run in a process of its own."""
    paths = os.pathsep.join([str(TESTS.parent / "platform"), str(TESTS)])
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths} | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def difference(one: dict[str, list[float]], other: dict[str, list[float]]) -> float:
    """The largest of any score in any epoch."""
    return max(abs(a - b) for name in one for a, b in zip(one[name], other[name], strict=True))


def main() -> None:
    here = scores()
    moved = {name: difference(here, scores(**variant)) for name, variant in _VARIANTS.items()}
    for name, value in moved.items():
        print(f"{name}: at most {value:.1e} away")
    if GOLDEN.exists():
        print(f"the scores so far: at most {difference(here, json.loads(GOLDEN.read_text())['scores']):.1e} away")
    content = {"command": "make golden", "moved_by_arithmetic": moved, "scores": here}
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n")
    print(f"wrote {GOLDEN}")


if __name__ == "__main__":
    main()
