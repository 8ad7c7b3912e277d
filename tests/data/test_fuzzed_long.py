"""libFuzzer on the readers of data, led by the code that its inputs reach. Needs `atheris`, of the extra `dev`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.fuzzing import npy, npz, parquet
from support.processes import REPOSITORY

pytest.importorskip("atheris", reason="atheris is not installed: it has wheels for Linux and Python up to 3.13")
SECONDS = 10
TABLE = {"frame": [1, 2, 3], "x": [0.5, 1.0, None]}
SEEDS: dict[str, list[bytes]] = {
    "labels": [b"valence,arousal\r\n0.5,-.25\n-5,-5\n", b"valence;arousal\n0,5;0,5\n", b"version https://git-lfs"],
    "tracks": [b"# of the challenge\na\nb\n"],
    "template": [b"image_location,valence,arousal\na/00001.jpg,,\na/00003.jpg,,\n"],
    "prompts": [path.read_bytes() for path in (REPOSITORY / "search_spaces/prompts").glob("*.yaml")],
    "space": [path.read_bytes() for path in (REPOSITORY / "search_spaces").glob("*.yaml")],
    "npy": [npy(np.zeros((3, 2))), npy(np.zeros(3, np.int16))],
    "npz": [npz(feature=np.zeros((3, 2)), frame=np.arange(1, 4))],
    "csv": [b"frame,time_s, x,success\n1,0.0,0.5,1\n2,0.04,,0\n"],
    "parquet": [parquet(TABLE)],
    "stored": [path.read_bytes() for path in (REPOSITORY / "tests/unit/data/old_store").rglob("*.parquet")],
}


@pytest.mark.long
@pytest.mark.parametrize("reader", SEEDS)
def test_nothing_but_coded_errors(reader: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, data in enumerate(SEEDS[reader]):
        (corpus / f"seed{number}").write_bytes(data)
    driver = REPOSITORY / "tests" / "support" / "fuzz_driver.py"
    done = subprocess.run(
        [sys.executable, driver, reader, corpus, str(SECONDS)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{REPOSITORY / 'platform'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS + 240,
    )
    found = [path.read_bytes() for path in tmp_path.glob("crash-*")]
    assert done.returncode == 0, (found, done.stderr[-3000:])
    assert "stat::number_of_executed_units" in done.stderr
