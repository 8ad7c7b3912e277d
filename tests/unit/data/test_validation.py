"""Findings about a data set; videos are described, not decoded, except in one whole run."""

from __future__ import annotations

import shutil

import av
import numpy as np
import pytest
from PIL import Image

from affectgrid.data.annotations import Annotation, write_annotation
from affectgrid.data.catalog import read_aff_wild2
from affectgrid.data.decoding import pieces, sample_crops
from affectgrid.data.validation import validate
from affectgrid.errors import MediaError, Problem
from affectgrid.media.upright import Orientation
from affectgrid.media.video import AudioInfo, VideoInfo


def info(num_frames=100, *, sound_stop_s=4.0, times=None):
    times = np.arange(num_frames) / 25 if times is None else times
    audio = None if sound_stop_s is None else AudioInfo("aac", 16000, 1, 0.0, sound_stop_s)
    positions = np.arange(num_frames)
    return VideoInfo(
        num_frames, times, 64, 48, 25.0, num_frames, audio, Orientation(), positions, positions, positions, True
    )


def label(path, va, masked=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    valid = np.ones(len(va), bool)
    valid[:masked] = False
    write_annotation(path, Annotation(np.asarray(va, np.float32), valid))


VARIED = np.stack([np.linspace(-1, 1, 100), np.linspace(1, -0.5, 100)], axis=1)


@pytest.fixture
def root(tmp_path):
    for name, split in (("a", "Train_Set"), ("b", "Validation_Set")):
        label(tmp_path / "VA_Estimation_Challenge" / split / f"{name}.txt", VARIED)
        (tmp_path / "videos").mkdir(exist_ok=True)
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(b"x")
    return tmp_path


def film(path):
    """A hundred pictures, without sound."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(100):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode(None))


def run(root, probe=lambda path: info(), **options):
    return [(p.code, p.severity) for p in validate(read_aff_wild2(root), probe=probe, **options)]


def train(root, name):
    return root / "VA_Estimation_Challenge/Train_Set" / f"{name}.txt"


def test_a_sound_data_set_has_no_finding(root):
    done = []
    assert run(root, progress=done.append) == []
    assert done == [1, 1]


def test_counts_within_the_tolerance_pass(root):
    assert run(root, probe=lambda path: info(103), tolerance_frames=3) == []
    assert run(root, probe=lambda path: info(104), tolerance_frames=3) == [("VAL-COUNT", "error")] * 2


def test_crops_beyond_the_end_are_found(root):
    folder = root / "cropped_aligned/a"
    folder.mkdir(parents=True)
    (folder / "00103.jpg").touch()
    assert run(root, tolerance_frames=3) == []
    (folder / "00104.jpg").touch()
    assert run(root, tolerance_frames=3) == [("VAL-COUNT", "error")]


def test_labels_are_judged(root):
    label(train(root, "a"), np.full((100, 2), 0.5), masked=25)
    problems = validate(read_aff_wild2(root), probe=lambda path: info())
    assert [p.code for p in problems] == ["VAL-CONSTANT", "VAL-CONSTANT", "VAL-MASKED"]
    assert "25 of 100 frames (25.0%) in 1 tracks" in problems[-1].found
    train(root, "a").write_text("valence,arousal\nx,0\n")
    assert run(root) == [("ANN-NUMBER", "error")]


def test_masked_lines_are_counted(root):
    text = train(root, "a").read_text().splitlines()
    train(root, "a").write_text("\n".join([*text[:3], "x,0", "0;1", *text[5:], ""]))
    assert run(root) == [("ANN-NUMBER", "error")]
    problems = validate(read_aff_wild2(root).on_bad_label("mask"), probe=lambda path: info())
    assert [p.code for p in problems] == ["VAL-ODD-LABEL", "VAL-MASKED"]
    assert problems[0].found.startswith(f"2 of 100 lines are odd, first ANN-NUMBER {train(root, 'a')}:4")
    assert "2 of 100 frames (2.0%) in 1 tracks" in problems[1].found


def test_videos_are_judged(root):
    assert run(root, probe=lambda path: info(sound_stop_s=None)) == [("VAL-NO-SOUND", "warning")] * 2
    assert run(root, probe=lambda path: info(sound_stop_s=2.0)) == [("VAL-SOUND-SHORT", "warning")] * 2
    times = np.arange(100) / 25
    times[50:] += 0.5
    assert run(root, probe=lambda path: info(times=times, sound_stop_s=5)) == [("VAL-RATE", "warning")] * 2
    # rounding to 1 ms, as Matroska does, is not a variable rate
    thirds = np.round(np.arange(100) / 30, 3)
    assert run(root, probe=lambda path: info(times=thirds)) == []


def test_a_video_that_cannot_be_read_does_not_hide_the_others(root):
    def probe(path):
        if path.stem == "a":
            raise MediaError(Problem("MED-SHORT", where=str(path), found="x", expected="y", hint="z"))
        return info(50)

    assert run(root, probe=probe) == [("MED-SHORT", "error"), ("VAL-COUNT", "error")]


def test_leakage_is_an_error_between_train_and_validation_only(root):
    label(train(root, "b_left"), VARIED)  # b.mp4 is in validation
    problems = validate(read_aff_wild2(root), probe=lambda path: info())
    assert [(p.code, p.severity) for p in problems] == [("VAL-LEAK", "error")]
    assert problems[0].found == "train: b_left; validation: b"
    train(root, "b_left").unlink()
    (root / "cropped_aligned/b_right").mkdir(parents=True)
    (root / "cropped_aligned/b_right/00001.jpg").touch()
    assert run(root) == [("VAL-LEAK", "warning"), ("VAL-NO-LABEL", "warning")]


def test_a_video_in_two_batches_is_told(root):
    (root / "batch1").mkdir()
    (root / "batch1/a.mp4").write_bytes(b"x")
    assert run(root) == [("CAT-OVERLAP", "warning")]


def test_orphans_are_named_up_to_ten(root):
    for number in range(12):
        label(train(root, f"lost{number:02d}"), VARIED)
    (root / "videos/extra.mp4").write_bytes(b"x")
    problems = validate(read_aff_wild2(root), probe=lambda path: info())
    assert [(p.code, p.severity) for p in problems] == [("VAL-NO-VIDEO", "error"), ("VAL-NO-LABEL", "warning")]
    assert problems[0].found.endswith("lost09 ... 12 in all")
    assert "extra" in problems[1].found


def crops(root, track, indices):
    """Crops of noise: all of them are larger than any torn one."""
    for index in indices:
        path = root / f"cropped_aligned/{track}/{index:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng([ord(track), index]).integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(noise).save(path)


@pytest.fixture
def cropped(root):
    """Two tracks of crops, without videos."""
    shutil.rmtree(root / "videos")
    for track in ("a", "b"):
        crops(root, track, range(1, 101))
    return root


def test_crops_are_decoded_a_sample_of_them_or_all(cropped):
    said = [("VAL-NO-SOUND", "warning")]
    assert run(cropped, probe=None) == run(cropped, probe=None, deep=True) == said
    torn = cropped / "cropped_aligned/a/00043.jpg"
    whole = torn.read_bytes()
    torn.write_bytes(whole[:5])  # found by its size, wherever it is
    (problem, _) = validate(read_aff_wild2(cropped))
    assert (problem.code, problem.where) == ("MED-CROP", str(torn))
    torn.write_bytes(b"x" * 2000)  # as large as the others
    assert run(cropped, probe=None) == said
    assert run(cropped, probe=None, deep=True) == [("MED-CROP", "error"), *said]
    torn.write_bytes(whole)
    (cropped / "cropped_aligned/b/00100.jpg").write_bytes(b"x" * 2000)  # the last is in every sample
    assert run(cropped, probe=None) == [("MED-CROP", "error"), *said]


def test_what_an_encode_run_would_refuse_is_refused(cropped):
    shutil.rmtree(cropped / "cropped_aligned/b")
    (cropped / "videos").mkdir()
    film(cropped / "videos/b.mp4")
    # the crops of the other track say that crops are to be encoded
    assert ("MED-CROPS", "error") in run(cropped, probe=None)
    assert ("MED-CROPS", "error") in run(cropped, probe=None, crop="frame")  # a has no video


def test_samples_are_the_same_every_time_and_hold_both_ends_and_the_smallest():
    sizes = [(index, 1000 + index % 7) for index in range(5, 905)]
    sizes[500] = (505, 3)
    chosen = sample_crops(sizes)
    assert chosen == sample_crops(sizes)
    assert {5, 904, 505} <= set(chosen)
    assert len(chosen) <= 32
    assert sample_crops(sizes[:1]) == [5]


@pytest.mark.parametrize(
    ("total", "deep", "expected"),
    [
        (0, False, [(0, 1)]),
        (0, True, [(0, 0)]),
        (10, False, [(0, 10)]),
        (20, False, [(0, 16), (2, 18), (4, 20)]),
        (100, False, [(0, 16), (42, 58), (84, 100)]),
        (40, True, [(0, 16), (16, 32), (32, 40)]),
    ],
)
def test_pieces_of_a_sample_and_of_the_whole(total, deep, expected):
    assert pieces(total, 16, deep=deep) == expected


def test_the_middle_piece_begins_where_decoding_would():
    assert pieces(100, 4, deep=False, keyframes=[0, 12, 36, 60]) == [(0, 4), (36, 40), (96, 100)]
    assert pieces(100, 4, deep=False, keyframes=[0]) == [(0, 4), (96, 100)]


def test_the_default_prober_reads_real_files_in_a_guarded_process(root):
    film(root / "videos/a.mp4")
    problems = validate(read_aff_wild2(root))  # b.mp4 holds one byte
    assert [(p.code, p.where.rsplit("/")[-1]) for p in problems] == [
        ("MED-DECODE", "b.mp4"), ("VAL-NO-CROPS", root.name), ("VAL-NO-SOUND", "a.mp4")
    ]  # fmt: skip
