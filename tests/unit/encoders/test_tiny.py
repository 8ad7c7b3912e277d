"""The seeded stand-ins for real encoders."""

from __future__ import annotations

import concurrent.futures
import hashlib
from pathlib import Path

import pytest
import torch

from affectgrid.encoders.tiny import cache_directory, draw, tiny_audio_directory, tiny_visual_directory
from affectgrid.errors import ModelError


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


@pytest.mark.parametrize("make", [tiny_visual_directory, tiny_audio_directory])
def test_the_same_bytes_wherever_it_is_made(make, tmp_path: Path):
    torch.manual_seed(1)
    first = make(tmp_path / "a")
    torch.manual_seed(2)  # the library's own initialisation must not leave a trace
    second = make(tmp_path / "b")
    assert digests(first) == digests(second)
    assert sum(path.stat().st_size for path in first.iterdir()) < 1_500_000
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in first.iterdir()), "a shared cache is readable"


def test_made_once_however_many_ask(tmp_path: Path):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        made = {future.result() for future in [pool.submit(tiny_audio_directory, tmp_path) for _ in range(8)]}
    (directory,) = made
    assert [path.name for path in tmp_path.iterdir()] == [directory.name], "no temporary directory is left"


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"MOD-CACHE .*file.*AFFECTGRID_CACHE"):
        tiny_audio_directory(tmp_path / "file" / "cache")


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("AFFECTGRID_CACHE", raising=False)
    assert cache_directory() == tmp_path / "xdg" / "affectgrid"
    monkeypatch.setenv("AFFECTGRID_CACHE", str(tmp_path / "own"))
    assert cache_directory() == tmp_path / "own"


def test_image_filters_ignore_brightness_and_sound_filters_do_not():
    image = draw("visual.conv1.weight", torch.empty(16, 3, 8, 8))
    sound = draw("embeddings.patch_embeddings.projection.weight", torch.empty(16, 1, 16, 16))
    torch.testing.assert_close(image.sum(dim=(2, 3)), torch.zeros(16, 3), atol=1e-5, rtol=0)
    assert sound.sum(dim=(1, 2, 3)).abs().max() > 0.5
    for filters in (image, sound):
        torch.testing.assert_close(filters.flatten(1).norm(dim=1), torch.ones(16))
