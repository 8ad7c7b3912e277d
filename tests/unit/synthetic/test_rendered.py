"""The rendered corpus as a whole: its layout, its peculiarities, and that it is the same every time."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from affectgrid.data.annotations import read_annotation
from affectgrid.data.catalog import read_aff_wild2
from affectgrid.data.validation import validate
from affectgrid.errors import CatalogError
from affectgrid.synthetic.rendered import (
    RenderConfig,
    begin_corpus,
    missing,
    plan_corpus,
    render_corpus,
    render_video,
)
from affectgrid.synthetic.rendered.corpus import video_name

SMALL = RenderConfig(num_train=7, num_validation=2, num_test=1, duration_s=3, seed=5)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rendered")
    render_corpus(root, SMALL)
    return root


def contents(root: Path, pattern: str = "**/*") -> dict[str, str]:
    files = (path for path in root.glob(pattern) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_catalog_finds_every_track_and_no_error(root: Path):
    catalog = read_aff_wild2(root)
    assert {split: len(catalog.split(split)) for split in ("train", "validation", "test")} == {
        "train": 8,  # seven videos, one of them with two people
        "validation": 2,
        "test": 1,
    }
    assert [problem for problem in validate(catalog, tolerance_frames=2) if problem.severity == "error"] == []


def test_two_people_share_one_video(root: Path):
    tracks = {track.id: track for track in read_aff_wild2(root).tracks}
    left, right = tracks["rendered-002_left"], tracks["rendered-002_right"]
    assert left.video == right.video == root / video_name(plan_corpus(SMALL)[1])
    assert left.annotation.read_text() != right.annotation.read_text()


def test_videos_have_the_planned_frames_rate_size_and_sound(root: Path):
    plans = plan_corpus(SMALL)
    for plan in plans:
        with av.open(str(root / video_name(plan))) as container:
            picture = container.streams.video[0]
            assert sum(1 for _ in container.decode(picture)) == plan.num_frames
            assert picture.average_rate == plan.rate_hz
            assert (picture.width, picture.height) == (plan.width, plan.height)
            assert picture.codec_context.name == "h264"
            sounds = [(s.rate, s.layout.name, s.codec_context.name) for s in container.streams.audio]
        assert sounds == ([(*plan.sound, "aac")] if plan.sound else [])
    assert sum(plan.sound is None for plan in plans) == 1
    assert {plan.suffix for plan in plans} == {".mp4", ".avi"}
    assert len({plan.rate_hz for plan in plans}) >= 5


def test_annotations_have_every_trouble_that_the_real_ones_have(root: Path):
    texts, extras = {}, {}
    for plan in plan_corpus(SMALL):
        for track in plan.tracks if plan.split != "test" else ():
            (path,) = root.glob(f"VA_Estimation_Challenge/*/{track.name}.txt")
            texts[track.name] = path.read_text()
            extras[track.name] = len(read_annotation(path).valid) - plan.num_frames
            assert extras[track.name] == track.extra_lines
            assert read_annotation(path).valid.all() == (not track.unlabelled)
    assert {-2, -1, 0, 2} <= set(extras.values())
    assert any("-5,-5\n" in text for text in texts.values())
    assert any("e-0" in text for text in texts.values()), "a value in scientific notation"
    assert all(text.startswith("valence,arousal\n") for text in texts.values())


def test_crops_are_missing_only_while_the_face_is_away(root: Path):
    for plan in plan_corpus(SMALL):
        for track in plan.tracks:
            numbers = {int(path.stem) for path in (root / "cropped_aligned" / track.name).iterdir()}
            missing = set(range(1, plan.num_frames + 1)) - numbers
            assert max(numbers) <= plan.num_frames
            assert bool(missing) == bool(track.away)
            for frame in missing:
                time_s = (frame - 1) / float(plan.rate_hz)
                assert any(start - 0.4 < time_s < stop + 0.4 for start, stop in track.away)
    crop = Image.open(next((root / "cropped_aligned").glob("*/00001.jpg")))
    assert (crop.size, crop.format) == ((112, 112), "JPEG")


def test_the_same_bytes_again_and_other_bytes_for_another_seed(root: Path, tmp_path: Path):
    plans = begin_corpus(tmp_path / "again", SMALL)
    for number in (1, 6):  # two people with B-frames, and the AVI
        render_video(tmp_path / "again", SMALL, plans[number])
        name = plans[number].name
        again = contents(tmp_path / "again", f"**/*{name}*/*") | contents(tmp_path / "again", f"**/{name}*")
        assert len(again) > 20
        assert again.items() <= contents(root).items()
    other = SMALL.model_copy(update={"seed": 6})
    render_video(tmp_path / "other", other, begin_corpus(tmp_path / "other", other)[0])
    assert not contents(tmp_path / "other", "**/*.jpg").items() & contents(root).items()


def test_what_is_there_is_kept_and_what_was_broken_off_is_made_again(root: Path):
    whole, plan = contents(root), plan_corpus(SMALL)[2]
    assert missing(root, plan_corpus(SMALL)) == []
    assert not render_video(root, SMALL, plan), "nothing to do"
    # what a kill before the last rename leaves: crops, perhaps half of them, no video
    (root / video_name(plan)).unlink()
    next((root / "cropped_aligned" / plan.name).iterdir()).unlink()
    (root / f".partial-{plan.name}").mkdir()
    (root / f".partial-{plan.name}" / "torn.mp4").write_bytes(b"torn")
    assert missing(root, plan_corpus(SMALL)) == [plan]
    calls: list[tuple[int, int]] = []
    render_corpus(root, SMALL, progress=lambda done, total: calls.append((done, total)))
    assert contents(root) == whole
    assert calls == [(done, 10) for done in range(11)]


def test_a_folder_of_another_configuration_is_left_alone(root: Path):
    whole = contents(root)
    with pytest.raises(CatalogError, match=r"REN-OTHER .*\(seed\)"):
        render_corpus(root, SMALL.model_copy(update={"seed": 6}))
    assert contents(root) == whole


def test_the_default_corpus_is_of_the_promised_size():
    plans = plan_corpus(RenderConfig())
    assert [sum(plan.split == split for plan in plans) for split in ("train", "validation", "test")] == [28, 12, 1]
    assert 10_000 < sum(plan.num_frames for plan in plans) < 14_000
    assert len({plan.name for plan in plans}) == len({plan.seed for plan in plans}) == 41
    for plan in plans:
        assert 10 <= plan.rate_hz <= 30
        assert math.isclose(plan.duration_s, 18, rel_tol=0.26)
        assert all(0 < start < stop < plan.duration_s for track in plan.tracks for start, stop in track.away)


def test_labels_cover_most_of_the_plane(root: Path):
    """Nine tracks of three seconds reach three of the four quadrants and well out from the middle."""
    values = [read_annotation(path) for path in root.glob("VA_Estimation_Challenge/*/*.txt")]
    va = np.concatenate([one.va[one.valid] for one in values])
    assert np.abs(va).max() <= 1
    assert len({(valence > 0, arousal > 0) for valence, arousal in va.tolist()}) >= 3
    assert np.ptp(va, axis=0).min() > 0.9
