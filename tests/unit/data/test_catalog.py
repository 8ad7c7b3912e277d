"""Tracks found in Aff-Wild2's layouts, and names and links that must not pass."""

from __future__ import annotations

import pickle

import pytest

from affectgrid.data.catalog import raw_video, read_aff_wild2, read_folder
from affectgrid.data.features.sources import content_digest, signature, with_labels
from affectgrid.errors import CatalogError
from affectgrid.media.faces.crops import list_crops
from affectgrid.media.sampling import Source
from support.folders import codes, touch

LABELS = "VA_Estimation_Challenge"


@pytest.fixture
def root(tmp_path):
    touch(
        tmp_path,
        "batch1/one.mp4", "batch1/two people.avi", "batch2/three.mp4", "batch2/unlabelled.mp4",
        "cropped_aligned/one/00001.jpg", "cropped_aligned/two people_left/00001.jpg",
        "cropped_aligned/tested/00001.jpg",
        f"{LABELS}/Train_Set/one.txt", f"{LABELS}/Train_Set/two people_left.txt",
        f"{LABELS}/Train_Set/two people_right.txt", f"{LABELS}/Validation_Set/three.txt",
    )  # fmt: skip
    return tmp_path


def test_tracks_videos_crops_and_splits(root):
    catalog = read_aff_wild2(root)
    assert [(t.id, t.split) for t in catalog.tracks] == [
        ("one", "train"),
        ("tested", "test"),
        ("three", "validation"),
        ("two people_left", "train"),
        ("two people_right", "train"),
        ("unlabelled", "test"),
    ]
    one, tested, three, left, right, unlabelled = catalog.tracks
    assert (one.video, one.crops) == (root / "batch1/one.mp4", root / "cropped_aligned/one")
    assert one.annotation == root / LABELS / "Train_Set/one.txt"
    assert (tested.video, tested.annotation) == (None, None)
    assert (three.crops, three.video) == (None, root / "batch2/three.mp4")
    assert left.video == right.video == root / "batch1/two people.avi"
    assert (left.crops, right.crops) == (root / "cropped_aligned/two people_left", None)
    assert (one.person, left.person, right.person) == ("largest", "left", "right")
    assert unlabelled.video == root / "batch2/unlabelled.mp4"
    assert catalog.split("train") == (one, left, right)


@pytest.mark.parametrize("labels", ["annotations/VA_Set", "VA_Set", "annotations/VA_Estimation_Challenge"])
@pytest.mark.parametrize("videos", ["videos/", "", "batch2/"])
def test_older_and_flatter_layouts(tmp_path, labels, videos):
    touch(
        tmp_path,
        f"{videos}a.mp4",
        f"{videos}b_left.mp4",
        f"{labels}/Train_Set/a.txt",
        f"{labels}/Validation_Set/b_left.txt",
    )
    a, b = read_aff_wild2(tmp_path).tracks
    assert (a.split, b.split) == ("train", "validation")
    assert b.video == tmp_path / f"{videos}b_left.mp4"  # a video of that very name wins over the shared one
    assert b.person == "largest"


def test_dots_in_names_are_part_of_the_id(tmp_path):
    touch(tmp_path, "videos/30-30-1920x1080.v2.mp4", "cropped_aligned/30-30-1920x1080.v2/00001.jpg")
    (track,) = read_aff_wild2(tmp_path).tracks
    assert track.id == "30-30-1920x1080.v2"
    assert track.crops is not None
    assert track.video is not None


def test_the_digest_follows_labels_and_videos_not_folders(root, tmp_path_factory):
    before = read_aff_wild2(root).digest()
    moved = tmp_path_factory.mktemp("moved") / "elsewhere"
    root.rename(moved)
    assert read_aff_wild2(moved).digest() == before
    (moved / LABELS / "Train_Set/one.txt").write_bytes(b"other")
    changed = read_aff_wild2(moved).digest()
    assert changed != before
    touch(moved, "batch1/more.mp4")
    assert read_aff_wild2(moved).digest() != changed


def test_all_faults_are_told_at_once(root, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    touch(outside, "secret.mp4")
    touch(root, "batch2/one.avi", "videos/ONE.mp4", "videos/what?.mp4")
    (root / "videos/link.mp4").symlink_to(outside / "secret.mp4")
    assert sorted(codes(root)) == ["CAT-DUPLICATE", "CAT-FOLD", "CAT-LINK", "CAT-NAME"]


def test_unicode_forms_of_one_name_fold(tmp_path):
    touch(tmp_path, "videos/caf\u00e9.mp4", "videos/cafe\u0301.mp4")
    assert codes(tmp_path) == ["CAT-FOLD"]


def test_a_link_inside_the_root_and_a_linked_root_are_fine(root, tmp_path_factory):
    (root / "videos").mkdir()
    (root / "videos/four.mp4").symlink_to(root / "batch1/one.mp4")
    alias = tmp_path_factory.mktemp("alias") / "data"
    alias.symlink_to(root)
    assert "four" in {track.id for track in read_aff_wild2(alias).tracks}


@pytest.mark.parametrize("name", [".hidden.mp4", "tab\there.mp4", "new\nline.mp4", "x" * 201 + ".mp4"])
def test_names_that_cannot_be_files_anywhere(tmp_path, name):
    touch(tmp_path, f"videos/{name}")
    assert codes(tmp_path) == ["CAT-NAME"]


def test_no_folder_and_nothing_in_it(tmp_path):
    assert codes(tmp_path) == ["CAT-EMPTY"]
    assert codes(tmp_path / "none") == ["CAT-ROOT"]


def test_a_folder_of_videos_and_a_single_one(tmp_path):
    touch(tmp_path, "b.MOV", "a.mkv", "notes.txt")
    catalog = read_folder(tmp_path)
    assert [(t.id, t.split, t.annotation) for t in catalog.tracks] == [("a", "test", None), ("b", "test", None)]
    assert [t.id for t in read_folder(tmp_path / "b.MOV").tracks] == ["b"]
    assert codes(tmp_path / "none", read_folder) == ["CAT-ROOT"]


@pytest.mark.parametrize(
    ("track", "video"),
    [("12", "12"), ("12_left", "12"), ("12_right", "12"), ("left", "left"), ("a_left_b", "a_left_b")],
)
def test_the_people_of_a_video_name_one_raw_video(track: str, video: str):
    assert raw_video(track) == video


LITTER = (".DS_Store", "Thumbs.db", "desktop.ini", "._one.mp4", "._one.txt", "._one.tar", "~$one.txt", "one.txt~")


def litter(root):
    """What macOS, Windows and Jupyter leave in every folder, and beside what was unpacked."""
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        touch(folder, *LITTER, ".ipynb_checkpoints/one-checkpoint.mp4", ".ipynb_checkpoints/one-checkpoint.txt")
        touch(folder, "__MACOSX/batch1/one.mp4", "__MACOSX/._00001.jpg", f"__MACOSX/{LABELS}/Train_Set/one.txt")


def test_litter_of_tools_is_ignored_everywhere(root):
    clean = read_aff_wild2(root)
    litter(root)
    assert read_aff_wild2(root) == clean
    assert read_aff_wild2(root).digest() == clean.digest()
    videos = read_folder(root / "batch1")
    assert [track.id for track in videos.tracks] == ["one", "two people"]
    crops = clean.tracks[0].crops
    assert list(list_crops(crops)) == [1]


def test_batches_that_overlap_are_one_track_where_they_are_equal(root):
    clean = read_aff_wild2(root)
    for original, copy in (
        ("batch1/one.mp4", "batch2/one.mp4"),
        ("cropped_aligned/one/00001.jpg", "crops2/one/00001.jpg"),
    ):
        touch(root, copy)
        (root / copy).write_bytes((root / original).read_bytes())
    touch(root, "crops2/one/._00001.jpg")
    catalog = read_aff_wild2(root)
    assert (catalog.tracks, catalog.digest()) == (clean.tracks, clean.digest())
    assert [(note.code, note.severity) for note in catalog.notes] == [("CAT-OVERLAP", "warning")] * 2
    assert catalog.notes[0].found.startswith("batch1/one.mp4 and batch2/one.mp4, equal")
    assert catalog.notes[1].found.startswith("cropped_aligned/one and crops2/one, equal")


@pytest.mark.parametrize("name", ["batch2/one.mp4", "crops2/one/00001.jpg", "crops2/one/00002.jpg"])
def test_batches_that_overlap_and_differ_are_refused_with_both_paths(root, name):
    touch(root, name)  # in the first case as long as the other
    (first, other) = ("batch1/one.mp4", name) if name.endswith("mp4") else ("cropped_aligned/one", "crops2/one")
    with pytest.raises(CatalogError, match=f"CAT-DUPLICATE {root}: {first} and {other}, which differ"):
        read_aff_wild2(root)


def test_a_link_to_the_same_file_is_an_overlap(root):
    (root / "batch2/one.mp4").symlink_to(root / "batch1/one.mp4")
    (note,) = read_aff_wild2(root).notes
    assert note.code == "CAT-OVERLAP"


def test_whatever_depends_on_labels_depends_on_how_odd_lines_are_read(root):
    refuse = read_aff_wild2(root)
    mask = refuse.on_bad_label("mask")
    assert refuse.on_bad_label("refuse") == refuse
    assert [str(t.labels) for t in mask.tracks] == [str(t.labels) for t in refuse.tracks]
    assert mask.digest() != refuse.digest()
    one, other = refuse.tracks[0], mask.tracks[0]
    assert signature(one) == signature(other)
    assert signature(one, labels=True) != signature(other, labels=True)
    source = Source(1, 0.0, False, "digest")
    assert with_labels(source, one) != with_labels(source, other)
    assert content_digest(one) != content_digest(other)
    assert pickle.loads(pickle.dumps(mask)) == mask


def test_only_the_tracks_that_lists_name(root, tmp_path_factory):
    lists = tmp_path_factory.mktemp("lists")
    (lists / "a.txt").write_text("# wanted\none\n\n two people_left \n")
    (lists / "b.txt").write_bytes(b"\xef\xbb\xbftested\r\n")
    catalog = read_aff_wild2(root)
    few = catalog.only([lists / "a.txt", lists / "b.txt"])
    assert [track.id for track in few.tracks] == ["one", "tested", "two people_left"]
    assert few.digest() != catalog.digest()
    assert catalog.only([]) == catalog
    assert catalog.unlabelled == ("tested", "unlabelled")
    assert few.unlabelled == ("tested",)
    (lists / "c.txt").write_text("one.mp4\nnothing like it\n")
    (lists / "d.txt").write_text("# none\n")
    with pytest.raises(CatalogError) as caught:
        catalog.only([lists / "c.txt", lists / "d.txt", lists / "e.txt"])
    assert {problem.code for problem in caught.value.problems} == {"CAT-TRACKS"}
    names = [problem.where.rpartition("/")[2] for problem in caught.value.problems]
    assert names == ["c.txt:1", "c.txt:2", "d.txt", "e.txt"]
    assert caught.value.problems[0].hint == "did you mean 'one'?"
