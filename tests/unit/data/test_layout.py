"""Where labels, crops and videos are found, and what is said where they are not."""

from __future__ import annotations

from functools import partial

import pytest

from affectgrid.data.catalog import read_aff_wild2
from affectgrid.errors import CatalogError
from support.folders import codes, touch


@pytest.mark.parametrize(
    "labels",
    [
        "5th ABAW Annotations/VA_Estimation_Challenge/{}",
        "Aff-Wild2/annotations/VA_Set/{}",
        "va_estimation_challenge/{}",
        "labels/{}",
        "{}",
    ],
)
@pytest.mark.parametrize(
    ("train", "validation"),
    [("Train_Set", "Validation_Set"), ("train_set", "validation_set"), ("TRAINING SET", "val"), ("train", "valid-set")],
)
def test_labels_are_found_under_any_parent_and_in_any_case(tmp_path, labels, train, validation):
    names = f"{labels.format(train)}/a.txt", f"{labels.format(validation)}/b.TXT"
    touch(tmp_path, "Aff-Wild2/Batch1/a.mp4", "Aff-Wild2/batch2/b.avi", *names)
    # the labels of other challenges have the same folders
    touch(tmp_path, "annotations/EXPR_Set/Train_Set/a.txt", "AU_Detection_Challenge/Train_Set/other.txt")
    a, b = read_aff_wild2(tmp_path).tracks
    assert (a.split, b.split) == ("train", "validation")
    assert (a.annotation, b.annotation) == (tmp_path / names[0], tmp_path / names[1])
    assert (a.video, b.video) == (tmp_path / "Aff-Wild2/Batch1/a.mp4", tmp_path / "Aff-Wild2/batch2/b.avi")


def test_crops_of_several_folders_are_merged(tmp_path):
    folders = ["x/cropped_aligned", "x/cropped_aligned_new_50_vids", "Crops2/batch1", "cropped_images/cropped_aligned"]
    touch(tmp_path, *(f"{folder}/track{number}/00001.jpg" for number, folder in enumerate(folders)))
    found = [(track.id, track.crops) for track in read_aff_wild2(tmp_path).tracks]
    assert found == [(f"track{number}", tmp_path / folder / f"track{number}") for number, folder in enumerate(folders)]


def test_the_newest_labels_win_and_two_that_differ_are_refused(tmp_path):
    touch(tmp_path, "videos/a.mp4", "annotations/VA_Set/Train_Set/a.txt", "z/VA_Estimation_Challenge/Train_Set/a.txt")
    (track,) = read_aff_wild2(tmp_path).tracks
    assert track.annotation == tmp_path / "z/VA_Estimation_Challenge/Train_Set/a.txt"
    other = tmp_path / "copy/VA_Estimation_Challenge/Train_Set/a.txt"
    other.parent.mkdir(parents=True)
    other.write_bytes(track.annotation.read_bytes())
    (track,) = read_aff_wild2(tmp_path).tracks  # a copy
    other.write_bytes(b"longer" * 50)
    assert codes(tmp_path) == ["CAT-LABELS"]


def test_labels_that_are_not_found_are_an_error_that_tells_what_is_there(tmp_path):
    touch(tmp_path, "videos/a.mp4", "videos/b.mp4")
    assert len(read_aff_wild2(tmp_path).tracks) == 2  # a folder of videos can be encoded
    required = partial(read_aff_wild2, labels="required")
    assert codes(tmp_path, required) == ["CAT-LABELS"]
    touch(tmp_path, "mine/a.txt", "annotations/EXPR_Set/Train_Set/c.txt")
    for read in (required, read_aff_wild2):
        with pytest.raises(CatalogError) as caught:
            read(tmp_path)
        (problem,) = caught.value.problems
        assert problem.code == "CAT-LABELS"
        assert "named as tracks in mine; " in problem.found
        assert "annotations/EXPR_Set/Train_Set/: 1 .txt" in problem.found
        assert "Train_Set and Validation_Set" in problem.expected
    assert len(read_aff_wild2(tmp_path, labels="optional").tracks) == 2


def test_an_empty_corpus_tells_what_is_there_instead(tmp_path):
    touch(tmp_path, "downloads/batch1.zip", "readme.txt")
    with pytest.raises(CatalogError, match=r"CAT-EMPTY .*no track, but \./: 1 \.txt, 1 folders; downloads/: 1 \.zip"):
        read_aff_wild2(tmp_path)


def test_videos_in_unusual_folders_are_found_only_where_no_usual_one_holds_any(tmp_path):
    touch(tmp_path, "clips/a.mp4", "more/b.mp4")
    assert [track.id for track in read_aff_wild2(tmp_path).tracks] == ["a", "b"]
    touch(tmp_path, "new_vids/a.mp4")
    assert [track.video for track in read_aff_wild2(tmp_path).tracks] == [tmp_path / "new_vids/a.mp4"]
