"""Folds: groups stay together, regions are shared out, and a fold's views are what a copy would be."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectgrid.data.splits.folds import Folds, make_folds
from affectgrid.errors import ConfigError
from support.planted import columns_of, planted_split


@st.composite
def corpora(draw):
    num_folds = draw(st.integers(2, 5))
    num_groups = draw(st.integers(num_folds, 12))
    sizes = draw(st.lists(st.integers(1, 3), min_size=num_groups, max_size=num_groups))
    groups = [f"video{group}" for group, size in enumerate(sizes) for _ in range(size)]
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    regions = [generator.integers(0, 9, generator.integers(0, 40)) for _ in groups]
    return groups, regions, num_folds


@settings(deadline=None, max_examples=30)
@given(corpora(), st.integers(0, 3))
def test_each_track_has_one_fold_and_a_video_is_never_torn_apart(corpus, seed):
    groups, regions, num_folds = corpus
    if sum(len(own) for own in regions) == 0:
        return
    folds = make_folds(groups, regions, num_folds, seed)
    assert len(folds) == len(groups)
    assert set(folds) <= set(range(num_folds))
    by_group = {}
    for group, fold in zip(groups, folds, strict=True):
        assert by_group.setdefault(group, fold) == fold
    assert make_folds(groups, regions, num_folds, seed) == folds


def test_folds_have_alike_shares_of_each_region():
    generator = np.random.default_rng(0)
    regions = [np.full(100, generator.integers(0, 9)) for _ in range(180)]
    folds = np.array(make_folds(list(range(180)), regions, 5, 0))
    counts = np.array([
        np.bincount(np.concatenate([own for own, f in zip(regions, folds, strict=True) if f == fold]), minlength=9)
        for fold in range(5)
    ])  # fmt: skip
    assert np.ptp(counts, axis=0).max() <= 100  # within one track of each other
    other = make_folds(list(range(180)), regions, 5, 1)
    assert tuple(folds) != other


def test_another_seed_makes_other_folds_that_are_as_even():
    """Of recordings as they are: of all lengths, each in a corner of the plane of its own."""
    generator = np.random.default_rng(0)
    regions = [
        generator.choice(9, int(generator.lognormal(6, 1)), p=generator.dirichlet(np.full(9, 0.3))) for _ in range(100)
    ]
    whole = np.bincount(np.concatenate(regions), minlength=9)
    together = []
    for seed in range(3):
        folds = np.array(make_folds(list(range(100)), regions, 5, seed))
        parts = [np.concatenate([regions[track] for track in np.flatnonzero(folds == fold)]) for fold in range(5)]
        shares = np.stack([np.bincount(part, minlength=9) / whole for part in parts])
        assert shares.std(0).mean() < 0.03  # dealt blindly 0.1
        together.append(folds[:, None] == folds)
    # chance: two tracks of one fold are in one fold again once in five times
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (together[one] & together[other]).sum() < 0.5 * together[one].sum()


def test_more_folds_than_videos_are_refused():
    with pytest.raises(ConfigError, match=r"CFG-FOLDS folds.*2 raw videos.*at least 3"):
        make_folds(["a", "a", "b"], [np.zeros(3, np.int64)] * 3, 3, 0)


@pytest.fixture
def folded():
    tracks = planted_split("train", [5, 7, 3, 8, 4])
    folds = Folds(dict(zip(tracks.track_ids, (0, 1, 0, 2, 1), strict=True)), 3)
    order = folds.order(tracks.track_ids)
    lengths = np.diff(tracks.offsets)
    rows = np.concatenate([np.arange(tracks.offsets[t], tracks.offsets[t + 1]) for t in order])
    streams = {name: type(own)(own.feature[rows], own.present[rows]) for name, own in tracks.streams.items()}
    whole = type(tracks)(
        name="folds",
        track_ids=tuple(tracks.track_ids[t] for t in order),
        offsets=np.concatenate([[0], np.cumsum(lengths[order])]),
        frame_index=tracks.frame_index[rows],
        time_s=tracks.time_s[rows],
        streams=streams,
        va=tracks.va[rows],
        labelled=tracks.labelled[rows],
        encoders=tracks.encoders,
    )
    return tracks, folds, whole


def test_a_fold_learns_from_all_others_and_is_scored_on_its_own(folded):
    tracks, folds, whole = folded
    for fold in range(3):
        train, held_out = folds.parts(whole, fold)
        assert {folds.fold_of[track] for track in held_out.track_ids} == {fold}
        assert sorted(train.track_ids + held_out.track_ids) == sorted(tracks.track_ids)
        assert not set(train.track_ids) & set(held_out.track_ids)
        assert (train.name, held_out.name) == ("train", "validation")
        for part in (train, held_out):
            for number, track in enumerate(part.track_ids):
                place, rows = tracks.track_ids.index(track), part.track(number)
                np.testing.assert_array_equal(part.va[rows], tracks.va[tracks.track(place)])
                for name, own in part.streams.items():
                    expected = tracks.streams[name].feature[tracks.track(place)]
                    np.testing.assert_array_equal(own.feature[rows], expected)


def test_a_fold_copies_no_feature_and_pickles_as_its_whole(folded):
    _, folds, whole = folded
    train, _ = folds.parts(whole, 1)
    assert np.shares_memory(train.streams["visual"].feature, whole.streams["visual"].feature)
    again = pickle.loads(pickle.dumps(train))
    for (name, one), (_, other) in zip(columns_of(train).items(), columns_of(again).items(), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
    assert np.shares_memory(again.va, again.whole.va)
