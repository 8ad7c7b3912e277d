"""Findings about a data set; videos are described, not decoded, except in one whole run."""

from __future__ import annotations

import av
import numpy as np
import pytest

from affectgrid.data.annotations import Annotation, write_annotation
from affectgrid.data.catalog import read_aff_wild2
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


def test_the_default_prober_reads_real_files_in_a_guarded_process(root):
    with av.open(str(root / "videos/a.mp4"), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(100):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode(None))
    problems = validate(read_aff_wild2(root))  # b.mp4 holds one byte
    assert [(p.code, p.where.rsplit("/")[-1]) for p in problems] == [("MED-DECODE", "b.mp4"), ("VAL-NO-SOUND", "a.mp4")]
