"""What the benchmarks share: films drawn once, large random models, one line of output each.

A benchmark compares with a baseline or a limit in the same run, by the median of alternating repeats. It prints a ratio
and does not judge it: a shared machine is too noisy for a gate. It fails where the results that it compares are wrong.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.films import draw_film

CACHE = Path(os.environ.get("AFFECTGRID_CACHE", Path.home() / ".cache" / "affectgrid")) / "benchmarks"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is a benchmark."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.benchmark)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Print ``name: ratio (figures)``."""

    def line(name: str, ratio: float, figures: str, goal: str) -> None:
        with capsys.disabled():
            print(f"\n{name}: {ratio:.3g} ({figures}; goal {goal})")

    return line


def random_clip(architecture: str) -> Path:
    """A local directory with random weights of a published architecture: speed needs no training."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    target = CACHE / f"{architecture}-random"
    if not target.is_dir():
        torch.manual_seed(0)
        model = open_clip.create_model(architecture, pretrained=None)
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        draft.mkdir(parents=True)
        save_file(
            {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, draft / "model.safetensors"
        )
        config = {"model_cfg": open_clip.get_model_config(architecture), "preprocess_cfg": {}}
        (draft / "open_clip_config.json").write_text(json.dumps(config))
        draft.rename(target)
    return target


def random_ast() -> Path:
    """As `random_clip`, of the published audio spectrogram transformer."""
    import torch
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    target = CACHE / "AST-random"
    if not target.is_dir():
        torch.manual_seed(0)
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        ASTModel(ASTConfig()).save_pretrained(draft)
        ASTFeatureExtractor().save_pretrained(draft)
        draft.rename(target)
    return target


@pytest.fixture(scope="session")
def vit_b32() -> Path:
    return random_clip("ViT-B-32")


@pytest.fixture(scope="session")
def vit_b16() -> Path:
    return random_clip("ViT-B-16")


@pytest.fixture(scope="session")
def films() -> Callable[..., list[Path]]:
    """Films in a folder of their own: `count` copies of one drawing."""

    def make(folder: Path, count: int, *, num_frames: int, height: int = 480) -> list[Path]:
        drawn = draw_film(CACHE / f"film-{height}p-{num_frames}.mp4", num_frames=num_frames, height=height)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"film{number:04d}.mp4" for number in range(count)]
        for path in paths:
            path.write_bytes(drawn.read_bytes())
        return paths

    return make
