"""Splits that are drawn and read: groups stay together, shares are met, and a wrong file is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectgrid.data.annotations import Annotation
from affectgrid.data.catalog import Catalog, Track
from affectgrid.data.splits.assignment import (
    SplitSettings,
    draw_and_write,
    draw_splits,
    group_tracks,
    require_folds,
    splits_text,
    with_splits,
    write_splits,
)
from affectgrid.data.survey import TrackFacts
from affectgrid.errors import CatalogError, ConfigError, Problem


def track(name: str, **facts: str) -> Track:
    return Track(name, "train", None, None, Path("labels"), **facts)


def corpus(num_videos: int, seed: int = 0) -> tuple[list[Track], list[np.ndarray]]:
    """Two people in every third video; between 50 and 150 labels each, most of them of one region."""
    random = np.random.default_rng(seed)
    names = [f"v{n:03}{end}" for n in range(num_videos) for end in (("_left", "_right") if n % 3 == 0 else ("",))]
    regions = [
        random.choice([4, *range(9)], random.integers(50, 150), p=[0.55, *[0.05] * 9]).astype(np.int64) for _ in names
    ]
    return [track(name) for name in names], regions


def test_groups_are_recordings_people_and_what_links_them() -> None:
    tracks = [
        track("a_left"),
        track("a_right"),
        track("b", subject="Ann"),
        track("c", subject="Ann"),
        track("d", source="film", subject="Bob"),
        track("e", source="film"),
        track("f", subject="Bob"),
        track("g"),
        track("h"),
        track("i"),
    ]
    groups = group_tracks(tracks, [("g", "c")])
    assert groups == ["a_left", "a_left", "b", "b", "d", "d", "d", "b", "h", "i"]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99), st.sampled_from([0.1, 0.2, 0.3]), st.sampled_from([0.0, 0.1, 0.2]))
def test_shares_are_met_and_groups_whole(seed: int, validation: float, test: float) -> None:
    tracks, regions = corpus(60)
    wanted = SplitSettings(seed=seed, validation=validation, test=test)
    drawn = draw_splits(tracks, regions, wanted)
    assert [one.id for one in drawn] == [one.id for one in tracks]
    assert draw_splits(tracks, regions, wanted) == drawn
    sizes = dict.fromkeys(("train", "validation", "test"), 0)
    for one, own in zip(drawn, regions, strict=True):
        sizes[one.split] += len(own)
    shares = {split: size / sum(sizes.values()) for split, size in sizes.items()}
    assert shares["validation"] == pytest.approx(validation, abs=0.05)
    assert shares["test"] == pytest.approx(test, abs=0.05)
    assert bool(shares["test"]) == bool(test)
    of = {one.id: one.split for one in drawn}
    assert all(of[f"v{n:03}_left"] == of[f"v{n:03}_right"] for n in range(0, 60, 3))


def test_regions_are_shared_out() -> None:
    tracks, regions = corpus(60)
    drawn = draw_splits(tracks, regions, SplitSettings(validation=0.3))
    shares = [
        np.bincount(np.concatenate([own for one, own in zip(drawn, regions, strict=True) if one.split == split]))
        for split in ("train", "validation")
    ]
    np.testing.assert_allclose(*(own / own.sum() for own in shares), atol=0.02)


def test_another_seed_draws_others() -> None:
    tracks, regions = corpus(30)
    drawn = [draw_splits(tracks, regions, SplitSettings(seed=seed)) for seed in (0, 1)]
    assert drawn[0] != drawn[1]


def test_tracks_without_labels_are_tests_and_few_groups_are_refused() -> None:
    tracks, regions = corpus(10)
    drawn = draw_splits(tracks, [np.zeros(0, np.int64), *regions[1:]], SplitSettings(seed=3))
    assert drawn[0].split == "test"
    assert {one.split for one in drawn[1:]} == {"train", "validation"}
    with pytest.raises(ConfigError, match="CFG-FOLDS"):
        draw_splits(tracks[:2], regions[:2], SplitSettings())  # two people in one video
    with pytest.raises(ValueError, match="nothing to learn from"):
        SplitSettings(validation=0.6, test=0.4)


@pytest.mark.parametrize("name", ["splits.csv", "splits.json"])
def test_a_file_reads_back(tmp_path: Path, name: str) -> None:
    tracks, regions = corpus(20)
    drawn = draw_splits(tracks, regions, SplitSettings(test=0.2, folds=3))
    path = write_splits(tmp_path / name, drawn)
    read = with_splits(Catalog("root", tuple(tracks)), path)
    assert list(read.tracks) == sorted(drawn, key=lambda one: one.id)
    assert read.notes == ()
    learnt = [one for one in read.tracks if one.split != "test"]
    assert set(require_folds(learnt, 3) or ()) == {0, 1, 2}
    assert all(one.fold is None for one in read.tracks if one.split == "test")
    with pytest.raises(ConfigError, match=r"CFG-FOLDS.*folds 0, 1, 2; expected 0 to 4"):
        require_folds(learnt, 5)
    with pytest.raises(ConfigError, match="tracks without"):
        require_folds(read.tracks, 3)
    assert require_folds(tracks, 3) is None


def test_people_from_a_list_and_errors_that_stop_the_drawing(tmp_path: Path) -> None:
    tracks, regions = corpus(30)
    labels = [Annotation(np.zeros((len(own), 2), np.float32), np.ones(len(own), bool)) for own in regions]
    facts = [TrackFacts(one, own, 0, 0.0, 0.0, 0) for one, own in zip(tracks, labels, strict=True)]
    ann = {"v001", "v004", "v010", "v017", "v022"}
    (tmp_path / "people.csv").write_text("\n".join(["track,person", *(f"{name},Ann" for name in sorted(ann))]))
    for seed in range(5):
        wanted = SplitSettings(seed=seed, validation=0.3, people=tmp_path / "people.csv")
        told = draw_and_write(tmp_path / "s.csv", facts, [], wanted)
        drawn = with_splits(Catalog("root", tuple(tracks)), tmp_path / "s.csv").tracks
        assert len({one.split for one in drawn if one.id in ann}) == 1
        assert all(
            f"{split} {sum(o.split == split for o in drawn)} tracks" in told for split in ("train", "validation")
        )
    leak = Problem("VAL-LEAK", "video", "two", "one", "draw splits")
    draw_and_write(tmp_path / "s.csv", facts, [leak], SplitSettings())
    with pytest.raises(CatalogError, match="1 errors"):
        draw_and_write(tmp_path / "s.csv", facts, [leak, Problem("ANN-RANGE", "a", "2", "1", "x")], SplitSettings())


def test_folds_that_a_run_drew_are_told() -> None:
    assert splits_text([track("b"), track("a")], {"a": 1, "b": 0}) == "track,split,fold\na,train,1\nb,train,0\n"
    assert splits_text([track("a")]) == "track,split\na,train\n"


def test_tracks_that_are_not_named_are_left_out_and_noted(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("track,split\nb,validation\n")
    read = with_splits(Catalog("root", (track("a"), track("b"))), tmp_path / "s.csv")
    assert [(one.id, one.split) for one in read.tracks] == [("b", "validation")]
    assert [(note.code, note.severity, note.found) for note in read.notes] == [("CAT-SPLITS", "warning", "without a")]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("track,split\na,valid\n", "row 1: 'a', 'valid'"),
        ("track,split\na,train\na,train\n", "row 2: 'a' again"),
        ("track,split\nc,train\n", "'c' is no track"),
        ("track,split,fold\na,train,one\n", "row 1: fold 'one'"),
        ("name,split\na,train\n", "row 1: ''"),
        ("", "no row"),
        ("\xff\xfe", "codec"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(CatalogError, match="CAT-SPLITS") as caught:
        with_splits(Catalog("root", (track("a"), track("b"))), path)
    assert told in str(caught.value)


@pytest.mark.parametrize("content", ["{}", "[1]", "[", json.dumps([{"track": "a", "split": None}])])
def test_wrong_json_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(CatalogError, match="CAT-SPLITS"):
        with_splits(Catalog("root", (track("a"),)), tmp_path / "s.json")
    with pytest.raises(CatalogError, match="CAT-SPLITS"):
        with_splits(Catalog("root", (track("a"),)), tmp_path / "none.csv")
