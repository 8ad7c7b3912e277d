"""One video under two names in two splits: found after it was renamed, encoded again and scaled down."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from affectgrid.data.catalog import read_aff_wild2
from affectgrid.data.leakage import Look, copies, look_at
from affectgrid.data.survey import TrackFacts
from affectgrid.data.validation import validate
from affectgrid.errors import Problem
from affectgrid.synthetic.rendered.config import RenderConfig
from affectgrid.synthetic.rendered.corpus import render_corpus
from support.small_corpus import VARIED, film, label

RENDERING = RenderConfig(num_train=5, num_validation=2, num_test=1, duration_s=3.0, seed=7)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    render_corpus(root, RENDERING)
    return root


def encode_again(source: Path, target: Path, *, scale: float, keep: int = 1, bit_rate: int = 60_000) -> Path:
    """Another codec, size, bit rate and frame rate (every `keep`-th frame), without sound."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        video = old.streams.video[0]
        out = new.add_stream("mpeg4", rate=round(video.average_rate / keep))
        out.width, out.height = (round(side * scale / 2) * 2 for side in (video.width, video.height))
        out.bit_rate = bit_rate
        for number, frame in enumerate(old.decode(video)):
            if number % keep == 0:
                small = frame.to_image().resize((out.width, out.height))
                picture = av.VideoFrame.from_image(small)
                picture.pts = number // keep
                new.mux(out.encode(picture))
        new.mux(out.encode(None))
    return target


@pytest.mark.parametrize(("scale", "keep"), [(1.0, 1), (0.5, 1), (0.4, 2)])
def test_a_copy_looks_the_same_and_nothing_else_does(corpus: Path, tmp_path: Path, scale: float, keep: int) -> None:
    videos = sorted(corpus.glob("batch*/*"))
    looks = {path.stem: look_at(str(path), None) for path in videos}
    assert copies({name: look for name, look in looks.items() if look}) == []
    for path in videos:
        again = look_at(str(encode_again(path, tmp_path / f"{path.stem}.avi", scale=scale, keep=keep)), None)
        assert again is not None
        found = copies({**{name: look for name, look in looks.items() if look}, "copy": again})
        assert [set(pair) for pair in found] == [{path.stem, "copy"}]


def found_in(root: Path) -> tuple[list[Problem], list[TrackFacts]]:
    facts: list[TrackFacts] = []
    problems = validate(read_aff_wild2(root), survey=facts.append)
    return [problem for problem in problems if problem.code == "VAL-LEAK"], facts


def test_a_renamed_copy_in_the_other_split_is_an_error(corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(corpus, root)
    assert found_in(root)[0] == []
    labels = root / "VA_Estimation_Challenge"
    shutil.copy(labels / "Train_Set/rendered-002_left.txt", labels / "Validation_Set/party.txt")
    encode_again(root / "batch2/rendered-002.mp4", root / "batch2/party.mp4", scale=0.5)
    (leak,), facts = found_in(root)
    assert leak.severity == "error"
    assert "'party' and 'rendered-002'" in leak.where
    assert leak.found == "train: rendered-002_left, rendered-002_right; validation: party"
    assert all(one.look is not None for one in facts)

    shutil.move(labels / "Validation_Set/party.txt", labels / "Train_Set/party.txt")
    assert found_in(root)[0] == []  # twice in one split harms no score


def test_pictures_without_a_video_are_looked_at(tmp_path: Path) -> None:
    for number, (name, split) in enumerate((("a", "Train_Set"), ("b", "Validation_Set"), ("c", "Validation_Set"))):
        label(tmp_path / "VA_Estimation_Challenge" / split / f"{name}.txt", VARIED[:20])
        random = np.random.default_rng(0 if name == "b" else number)
        folder = tmp_path / "cropped_aligned" / name
        folder.mkdir(parents=True)
        for index in range(1, 21):
            noise = random.integers(0, 255, (20, 20), np.uint8)
            picture = Image.fromarray(noise).resize((112, 112) if name != "b" else (96, 96), Image.Resampling.BICUBIC)
            picture.save(folder / f"{index:05}.jpg", quality=90 if name != "b" else 60)
    (leak,), _ = found_in(tmp_path)
    assert leak.found == "train: a; validation: b"


def test_what_shows_nothing_is_like_nothing(tmp_path: Path) -> None:
    look = Look(10.0, np.zeros((4, 256), bool), np.zeros(4, bool))
    assert copies({"a": look, "b": look}) == []
    assert look_at(str(film(tmp_path / "short.mp4", num_frames=3)), None) is None
