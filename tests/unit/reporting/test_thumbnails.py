"""The picture beside each problem of a data set: of the file in question, as near to the fault as one decodes."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from affectgrid.data.catalog import read_aff_wild2
from affectgrid.errors import Problem
from affectgrid.media.faces.crops import read_crop
from affectgrid.reporting.corpus.problems import write_problems
from affectgrid.reporting.corpus.thumbnails import Thumbnail, draw_thumbnails
from support.broken_corpus import torn_crop
from support.small_corpus import labels_of, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("thumbnails") / "corpus")


def problem(where: object, found: str = "x") -> Problem:
    return Problem("TST-X", where=str(where), found=found, expected="y", hint="mend it so")


def pixels(thumbnail: Thumbnail | None) -> np.ndarray:
    assert thumbnail is not None
    return np.asarray(Image.open(io.BytesIO(thumbnail.jpeg)), float)


def test_each_problem_shows_what_it_is_about(corpus: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(corpus, tmp_path / "broken"))
    torn_crop(broken)
    shutil.rmtree(broken / "cropped_aligned/b")
    places = [
        f"{labels_of(broken, 'a')}:7",  # the label of frame 6
        broken / "cropped_aligned/a/00043.jpg",  # torn
        f"{labels_of(broken, 'b')}:7",  # without crops: a frame of the video
        broken / "videos/b.mp4",
        "video b",
        broken,
        "split train",
    ]
    line, torn, framed, video, named, root, split = draw_thumbnails(
        [problem(place) for place in places], read_aff_wild2(broken).tracks
    )
    assert line is not None
    assert line.words == "crop 6 of a"
    crop = read_crop(corpus / "cropped_aligned/a/00006.jpg").astype(float)
    assert np.abs(pixels(line) - crop).mean() < 12  # noise, compressed twice
    assert torn is not None
    assert torn.words == "crop 42 of a"
    assert framed is not None
    assert framed.words == "frame 6 of b.mp4"
    assert video == named
    assert video is not None
    assert video.words == "frame 1 of b.mp4"
    assert not np.array_equal(pixels(video), pixels(framed))
    assert (root, split) == (None, None)


def test_what_cannot_be_decoded_shows_nothing(corpus: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(corpus, tmp_path / "broken"))
    (broken / "videos/b.mp4").write_bytes(b"noise" * 99)
    shutil.rmtree(broken / "cropped_aligned")
    tracks = read_aff_wild2(broken).tracks
    shown = draw_thumbnails([problem(broken / "videos/b.mp4"), problem(broken / "videos/a.mp4")], tracks)
    assert shown[0] is None
    assert shown[1] is not None


def test_the_page_has_pictures_mends_and_no_path_outside_the_corpus(corpus: Path, tmp_path: Path) -> None:
    catalog = read_aff_wild2(corpus)
    found = f"1 of 100 lines are odd, first ANN-NUMBER {labels_of(corpus, 'a')}:7: <b>"
    write_problems([problem(labels_of(corpus, "a"), found), problem(corpus)], catalog, [], tmp_path)
    table = (tmp_path / "doctor.html").read_text().partition("<caption>Problems")[2].partition("</table>")[0]
    assert table.count('src="data:image/jpeg;base64,') == 1
    assert 'alt="crop 1 of a"' in table
    assert table.count("mend it so") == 2
    assert "how to mend it" in table
    assert str(corpus) not in table
    assert "first ANN-NUMBER VA_Estimation_Challenge/Train_Set/a.txt:7: &lt;b&gt;" in table
