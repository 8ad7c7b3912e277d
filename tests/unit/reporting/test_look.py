"""The page that plays tracks, and the overlay: the video's own frames, times and sound, with what is known drawn in."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from affectgrid.data.catalog import read_aff_wild2
from affectgrid.errors import CatalogError
from affectgrid.media.frames import FrameReader
from affectgrid.media.video import probe_video
from affectgrid.reporting.look.course import Course, read_courses
from affectgrid.reporting.look.overlay import write_overlay
from affectgrid.reporting.look.page import write_page
from affectgrid.storage import Storage
from support.browser import needs_browser, open_page

BOX = (40.0, 30.0, 90.0, 100.0)


@pytest.fixture(scope="module")
def courses(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Course]:
    """Two labelled tracks, one of them predicted and with a face that does not move."""
    tracks = read_aff_wild2(rendered, labels="optional").split("validation")
    num_frames = probe_video(tracks[0].video).num_frames
    frame = np.arange(1, num_frames + 1)
    columns = {"frame": frame, "time_s": frame / 25, "valence": np.linspace(-1, 1, num_frames), "arousal": frame * 0.0}
    edges = dict(zip(("face_left", "face_top", "face_right", "face_bottom"), BOX, strict=True))
    columns |= {name: np.full(num_frames, edge, np.float32) for name, edge in edges.items()}
    path = tmp_path_factory.mktemp("predictions") / "predictions.parquet"
    pq.write_table(pa.table({"track": [tracks[0].id] * num_frames, **columns}), path)
    return read_courses(tracks, Storage(path))


def test_a_course_joins_labels_and_predictions_by_frame(courses: list[Course]) -> None:
    one, other = courses
    assert one.predicted[:, 0] == pytest.approx(np.linspace(-1, 1, len(one.time_s)))
    assert np.isnan(other.predicted).all()
    assert np.isfinite(other.labels).any()
    assert one.box[3].tolist() == list(BOX)


def test_without_anything_to_show_it_says_so(rendered: Path, tmp_path: Path) -> None:
    tracks = read_aff_wild2(rendered, labels="optional").tracks
    bare = [dataclasses.replace(track, annotation=None) for track in tracks]
    with pytest.raises(CatalogError, match="LOOK-NONE"):
        read_courses(bare, None)
    with pytest.raises(CatalogError, match="LOOK-NONE"):
        read_courses(tracks, Storage(tmp_path / "predictions.parquet"))


def test_an_overlay_has_every_frame_at_its_time_and_the_box_where_it_is(courses: list[Course], tmp_path: Path) -> None:
    course, path = courses[0], tmp_path / "drawn.mp4"
    write_overlay(course, path)
    source, drawn = probe_video(course.video), probe_video(path)
    assert drawn.num_frames == source.num_frames
    np.testing.assert_allclose(drawn.frame_times_s, source.frame_times_s, atol=0.002)
    assert (drawn.audio is None) == (source.audio is None)
    assert drawn.width > source.width
    with FrameReader(path, drawn) as new, FrameReader(course.video, source) as old:
        (_, _, after), (_, _, before) = *new.read([5]), *old.read([5])
    left, top, _, bottom = (round(edge) for edge in BOX)
    edge = after[top + 5 : bottom - 5, left : left + 2].astype(int).mean((0, 1))
    assert edge[1] > edge[0] + 40  # green
    inside = np.abs(
        after[top + 10 : bottom - 10, left + 10 : 80].astype(int) - before[top + 10 : bottom - 10, left + 10 : 80]
    )
    assert inside.mean() < 12  # the same picture, encoded twice
    plane = after[:, source.width :]
    assert (plane < 90).all(2).sum() > 20  # the point
    assert not list(tmp_path.glob(".*"))


def test_an_overlay_is_complete_or_not_there(courses: list[Course], tmp_path: Path, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr("affectgrid.reporting.look.overlay._draw", broken)
    with pytest.raises(RuntimeError):
        write_overlay(courses[0], tmp_path / "drawn.mp4")
    assert not any(tmp_path.iterdir())


def embedded(page: Path) -> list[dict[str, object]]:
    """The tracks that a page holds."""
    match = re.search(r'id="tracks">(.*?)</script>', page.read_text(), re.DOTALL)
    assert match
    found: list[dict[str, object]] = json.loads(match[1])
    return found


def test_a_page_links_what_browsers_play_and_encodes_the_rest(courses: list[Course], tmp_path: Path) -> None:
    other = tmp_path / "videos" / "old.avi"
    other.parent.mkdir()
    with av.open(str(other), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame(64, 48, "rgb24")))
        container.mux(stream.encode(None))
    nan = np.full((10, 4), np.nan, np.float32)
    old = Course("old", other, np.arange(10) / 25, nan[:, :2], nan[:, :2] * 0, nan)
    page = write_page(tmp_path / "out", [courses[0], old], "<a title>")
    played, encoded = embedded(page)
    assert "&lt;a title&gt;" in page.read_text()
    for track, video in ((played, courses[0].video), (encoded, tmp_path / "out" / "look" / "old.mp4")):
        assert (page.parent / str(track["video"])).resolve() == video.resolve()
    assert len(played["time"]) == len(played["label"][0]) == len(played["predicted"][1])  # type: ignore[arg-type, index]
    assert encoded["label"] is None
    (inside,) = embedded(write_page(tmp_path / "one", [courses[1]], "one file", embed=True))
    assert str(inside["video"]).startswith("data:video/mp4;base64,")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["look.html"]


@needs_browser
def test_a_browser_plays_it(courses: list[Course], tmp_path: Path) -> None:
    """Its script runs without an error, and tells the first frame's numbers; the video is found."""
    shown, console = open_page(write_page(tmp_path, courses, "two tracks"), tmp_path / "profile")
    assert console == []
    told = re.search(r'<output id="now">([^<]*)<', shown)
    assert told
    assert told[1].startswith("frame 1, ")
    assert "predicted -1.00, 0.00" in told[1]
    assert 'role="alert"></p>' in shown
