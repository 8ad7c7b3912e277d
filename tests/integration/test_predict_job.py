"""Predict from the command line: what it prints, writes and exits with."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from affectgrid.data.workspace import Workspace
from affectgrid.distributed.predict import is_short, predict
from affectgrid.training.inference.ensemble import load_ensemble
from support.jobs import job


def test_predict_writes_every_frame_and_the_challenge_file(
    repository: Path, rendered: Path, trained: Path, tmp_path: Path
) -> None:
    track = sorted((rendered / "VA_Estimation_Challenge" / "Validation_Set").glob("*.txt"))[0]
    num_frames = len(track.read_text().splitlines()) - 3  # counts of lines and frames may differ by two
    template = tmp_path / "template.txt"
    locations = [f"{track.stem}/{frame:05d}.jpg" for frame in range(1, num_frames + 1)]
    template.write_text("image_location,valence,arousal\n" + "".join(f"{place},0,0\n" for place in locations))
    model = trained / "runs" / "quick" / "model"
    done = job(repository, "predict", rendered, "--model", model, "--template", template, "--out", trained)
    assert done.returncode == 0, done.stderr
    with (trained / "predictions" / f"{track.stem}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:  # nothing is said of a frame without a face
        said = [row[name] for name in ("valence", "arousal")]
        assert all(-1 <= float(value) <= 1 for value in said) if row["face_found"] == "1" else said == ["", ""]
        assert sum(float(row[name]) for name in row if name.startswith("region_")) == pytest.approx(1, abs=1e-3)
        assert float(row["share_visual"]) + float(row["share_audio"]) == pytest.approx(1, abs=1e-4)
    assert (trained / "predictions" / f"{track.stem}.png").stat().st_size > 1000
    table = pq.read_table(trained / "predictions" / "predictions.parquet").to_pandas()
    own = table[table["track"] == track.stem]
    assert own["valence"].notna().tolist() == [row["valence"] != "" for row in rows]
    lines = (trained / "predictions" / "submission.txt").read_text().splitlines()
    assert lines[0] == "image_location,valence,arousal"
    assert [line.split(",")[0] for line in lines[1:]] == locations
    seen = next(number for number, row in enumerate(rows) if row["face_found"] == "1")
    assert lines[1 + seen].split(",")[1] == rows[seen]["valence"]
    assert all(len(line.split(",")[1]) > 0 for line in lines)  # the challenge scores every frame


def test_a_video_without_a_face_is_told_and_gets_no_numbers(repository: Path, trained: Path, tmp_path: Path) -> None:
    clip, out = tmp_path / "wall.mp4", tmp_path / "out"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for _ in range(30):
            container.mux(stream.encode(av.VideoFrame(160, 120, "rgb24")))
        container.mux(stream.encode(None))
    asked = ("predict", clip, "--model", trained / "runs" / "quick" / "model", "--out", out)
    done = job(repository, *asked)
    assert done.returncode == 1, done.stderr
    assert "wall: face in 0 of 30 frames" in done.stdout
    with (out / "predictions" / "wall.csv").open() as file:
        assert {(row["valence"], row["face_found"]) for row in csv.DictReader(file)} == {("", "0")}
    filled = job(repository, *asked, "--fill", "model")
    with (out / "predictions" / "wall.csv").open() as file:
        assert all(-1 <= float(row["valence"]) <= 1 for row in csv.DictReader(file))
    assert filled.returncode == 1
    twice = job(repository, "predict", clip, clip, *asked[2:])
    assert (twice.returncode, "PRED-TWICE" in twice.stderr) == (2, True)
    unknown = job(repository, "predict", clip, "--out", out)
    assert (unknown.returncode, "CFG-MODEL" in unknown.stderr) == (2, True)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_short_video_needs_no_ray_and_has_the_same_answer(
    trained: Path, media: Path, tmp_path: Path, ray_cluster: None, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job starts no cluster for it; where each face is stands beside its numbers."""
    clip, model = media / "single_face.mp4", trained / "runs" / "quick" / "model"
    out, sessions = tmp_path / "alone", tmp_path / "sessions"
    sessions.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(sessions))
    done = job(repository, "predict", clip, "--model", model, "--out", out)
    assert done.returncode == 0, done.stderr
    assert not any(sessions.iterdir())
    alone = rows_of(out / "predictions" / "single_face.csv")
    predict(load_ensemble([model]), [clip], Workspace.open(tmp_path / "ray"))
    assert rows_of(tmp_path / "ray" / "predictions" / "single_face.csv") == alone
    with av.open(str(clip)) as container:
        width, height = container.streams.video[0].width, container.streams.video[0].height
    seen = [row for row in alone if row["face_found"] == "1"]
    assert seen
    for row in seen:
        left, top, right, bottom = (float(row[f"face_{side}"]) for side in ("left", "top", "right", "bottom"))
        assert -width / 4 < left < right < width * 5 / 4
        assert -height / 4 < top < bottom < height * 5 / 4
        assert float(row["face_score"]) > 0
    assert all(row["face_left"] == "" for row in alone if row["face_found"] == "0")
    table = pq.read_table(out / "predictions" / "predictions.parquet")
    assert np.isfinite(table["face_left"].to_numpy()).sum() == len(seen)


def test_what_is_short(tmp_path: Path) -> None:
    small, large = tmp_path / "small.mp4", tmp_path / "large.mp4"
    small.write_bytes(b"0")
    with large.open("wb") as file:
        file.truncate(9 << 20)
    assert is_short([small, tmp_path / "missing.mp4"])
    assert not is_short([small, large])
    assert not is_short([tmp_path])
    assert not is_short(["s3://bucket/small.mp4"])
