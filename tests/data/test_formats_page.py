"""The page on formats, followed to the letter: its new format, where it says, reads a data set."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.formats import text
from support.small_corpus import film

NUM_FRAMES, RATE_HZ = 50, 25


@pytest.fixture
def page(repository: Path) -> str:
    return (repository / "docs/formats.md").read_text().split("## Add a format")[1]


def test_a_new_format_is_one_file(repository: Path, tmp_path: Path, page: str) -> None:
    for folder in ("platform", "jobs"):
        shutil.copytree(repository / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder,), (name,) = re.findall(r"In `(platform/[^`]+/)`", page), re.findall(r"\*\*(\w+\.py)\*\*", page)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / folder / name).write_text(code)

    film(tmp_path / "mytoys/anywhere/a.mp4", num_frames=NUM_FRAMES, sound_s=2.0)
    text(tmp_path / "mytoys/ratings/a.tsv", ["0\t1\t9", "1\t5\t5", "1.5\t5\t5"])  # the last half second has none
    (commands,) = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(tmp_path / "platform")}
    for command in commands.splitlines():
        done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        card = json.loads((tmp_path / "outputs/data_card.json").read_text())["splits"]["train"]
        rated = int(1.5 * RATE_HZ) + 1  # at 0 to 1.5 s
        assert (card["tracks"], card["labels"], card["masked"]) == (1, NUM_FRAMES, NUM_FRAMES - rated)
        quarter = rated - sum(card["regions_3x3"][1])  # towards the middle from valence -1, arousal 1
        assert card["regions_3x3"][0][0] == quarter > 5
        shutil.rmtree(tmp_path / "outputs")
