"""Make every mistake of `mutants.py` in a copy of the package and see that a test fails; prints the list.

`make mutants`, or ``python tests/mutation/check.py [words]`` for the mutants whose name holds one of the words. Exit
status 0: every mistake is noticed; 1: some survive, or the tests fail without any mistake. About five minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[0] = str(TESTS)  # as pytest has it

from mutation.mutants import MUTANTS, Mutant  # noqa: E402

ROOT = TESTS.parent
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.egg-info")


def copy_of_the_repository(folder: Path) -> Path:
    """What the unit tests read."""
    for name in ("platform", "tests", "search_spaces", "jobs"):
        shutil.copytree(ROOT / name, folder / name, ignore=_NOT_COPIED)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def first_failure(copy: Path, tests: Sequence[str]) -> str | None:
    """The first test that fails in the copy; None where all pass."""
    paths = [f"tests/unit/{name}" for name in tests]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not long", "-p", "no:cacheprovider", *paths]
    # The copy must be what is imported, also where the package is installed; the same examples in every run.
    environment = os.environ | {"PYTHONPATH": str(copy / "platform"), "CI": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) tests/unit/(\S+)", done.stdout, re.MULTILINE)
    return (
        found.group(1)
        if found
        else f"pytest's exit status {done.returncode}: {done.stdout[-2000:]}{done.stderr[-500:]}"
    )


def killer_of(mutant: Mutant, copy: Path) -> str | None:
    """The test that notices the mistake; the copy is restored afterwards."""
    path = copy / "platform" / "affectgrid" / mutant.file
    sound = path.read_text()
    if sound.count(mutant.source) != 1:
        raise SystemExit(f"{mutant.name}: {mutant.file} holds {mutant.source!r} {sound.count(mutant.source)} times")
    path.write_text(sound.replace(mutant.source, mutant.mistake))
    try:
        return first_failure(copy, mutant.tests)
    finally:
        path.write_text(sound)


def main(words: Sequence[str]) -> int:
    """Returns the exit status."""
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    survivors = []
    with tempfile.TemporaryDirectory(prefix="ag-mutants-") as folder:
        copy = copy_of_the_repository(Path(folder))
        broken = first_failure(copy, sorted({test for mutant in chosen for test in mutant.tests}))
        if broken:
            print(f"without any mistake a test fails: {broken}")
            return 1
        for mutant in chosen:
            killer = killer_of(mutant, copy)
            print(f"{mutant.name}: {f'killed by {killer}' if killer else 'SURVIVED'}", flush=True)
            survivors += [] if killer else [mutant.name]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mistakes are noticed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
