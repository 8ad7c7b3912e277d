"""Splits in memory: labels join by frame index, sound by time."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from affectgrid.data.annotations import Annotation, LabelFile, write_annotation
from affectgrid.data.catalog import Track
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.table import FeatureTable
from affectgrid.data.splits.interpolation import fill_between, interpolate
from affectgrid.data.splits.resident import load_split
from affectgrid.errors import AnnotationError
from support.planted import columns_of


def features(frame_index, time_s, present, feature):
    return FeatureTable(
        np.array(frame_index, np.int32), np.array(time_s, np.float64), np.array(present, bool),
        np.array(feature, np.float16).reshape(len(frame_index), -1),
    )  # fmt: skip


PRINTS = {"visual": "f0", "audio": "f0"}
HOPS = features([1, 2, 3, 4], [0, 0.5, 1.0, 1.5], [1, 1, 0, 1], [[0, 0], [4, 8], [0, 0], [2, 2]])


@pytest.mark.parametrize(
    ("time_s", "expected", "present"),
    [
        (0.0, [0, 0], True),
        (0.125, [1, 2], True),
        (0.25, [2, 4], True),
        (0.5, [4, 8], True),  # at a present hop, whatever follows
        (0.6, [0, 0], False),  # the next hop is absent
        (1.0, [0, 0], False),
        (1.5, [2, 2], True),  # the last hop, alone
        (1.6, [0, 0], False),
        (-0.1, [0, 0], False),
        (np.nan, [0, 0], False),
    ],
)
def test_sound_is_interpolated_between_present_hops(time_s, expected, present):
    feature, heard = interpolate(HOPS, np.array([time_s]))
    assert feature.dtype == np.float16
    assert feature[0].tolist() == expected
    assert bool(heard[0]) is present


def test_causal_sound_is_that_of_the_last_hop():
    times = np.array([-0.1, 0.0, 0.49, 0.5, 0.99, 1.2, 1.5, 9.0, np.nan])
    feature, heard = interpolate(HOPS, times, hold=True)
    assert heard.tolist() == [False, True, True, True, True, False, True, True, False]
    assert feature[heard, 0].tolist() == [0, 0, 4, 4, 2, 2]


def test_interpolation_against_a_reference_loop():
    rng = np.random.default_rng(0)
    hops = features(range(1, 21), np.arange(20) * 0.2, rng.random(20) > 0.3, rng.standard_normal((20, 3)))
    times = rng.uniform(-0.5, 4.5, 200)
    feature, heard = interpolate(hops, times)
    for row, time_s in enumerate(times):
        left = int(np.floor(time_s / 0.2))
        inside = 0 <= left < 19 and bool(hops.present[left] and hops.present[left + 1])
        assert bool(heard[row]) is inside
        weight = time_s / 0.2 - left
        mixed = hops.feature[left] * (1 - weight) + hops.feature[left + 1] * weight if inside else np.zeros(3)
        np.testing.assert_allclose(feature[row], mixed, atol=2e-3)


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "features")


def put(store, track, visual, audio=HOPS):
    for stream, table in (("visual", visual), ("audio", audio)):
        store.write_part(stream, "f0", track, 0, table)
        store.finalize(stream, "f0", track, 1, {"encoder": f"tiny-{stream}"})


def labelled(tmp_path, name, va, valid):
    path = tmp_path / f"{name}.txt"
    write_annotation(path, Annotation(np.array(va, np.float32), np.array(valid, bool)))
    return Track(name, "train", None, None, path)


def test_labels_join_by_frame_index(store, tmp_path):
    # frame 2 has no face; the labels have one frame more than the video
    put(store, "a", features([1, 2, 3], [0.0, 0.25, 0.5], [1, 0, 1], [[1], [0], [3]]))
    # the labels end before the video
    put(store, "b", features([1, 2, 3], [0, 0.5, 1], [1, 1, 1], [[5], [6], [7]]))
    tracks = [
        labelled(tmp_path, "a", [[0.1, 0.2], [0, 0], [0.5, 0.6], [0.7, 0.8]], [1, 0, 1, 1]),
        labelled(tmp_path, "b", [[-0.5, -0.25]], [1]),
    ]
    split = load_split(store, tracks, fingerprints=PRINTS, name="train")
    assert (split.name, split.track_ids, split.num_tracks, split.num_frames) == ("train", ("a", "b"), 2, 5)
    assert split.offsets.tolist() == [0, 4, 5]
    assert split.track(1) == slice(4, 5)
    assert split.frame_index.tolist() == [1, 2, 3, 4, 1]
    np.testing.assert_array_equal(split.time_s, [0, 0.25, 0.5, np.nan, 0])
    assert split.streams["visual"].feature.tolist() == [[1], [0], [3], [0], [5]]
    assert split.streams["visual"].present.tolist() == [True, False, True, False, True]
    assert split.streams["audio"].feature.tolist() == [[0, 0], [2, 4], [4, 8], [0, 0], [0, 0]]
    assert split.streams["audio"].present.tolist() == [True, True, True, False, True]
    assert split.labelled.tolist() == [True, False, True, True, True]
    np.testing.assert_allclose(split.va, [[0.1, 0.2], [0, 0], [0.5, 0.6], [0.7, 0.8], [-0.5, -0.25]], rtol=1e-6)
    assert split.encoders == {"visual": "tiny-visual", "audio": "tiny-audio"}


def test_a_stream_with_gaps_joins_by_index_not_by_position(store, tmp_path):
    put(store, "a", features([1, 4], [0, 0.75], [1, 1], [[2], [4]]))
    track = labelled(tmp_path, "a", [[0.1, 0.1]] * 4, [1] * 4)
    split = load_split(store, [track], fingerprints=PRINTS, name="train")
    assert split.streams["visual"].feature.tolist() == [[2], [0], [0], [4]]
    assert split.streams["visual"].present.tolist() == [True, False, False, True]


def test_without_labels_the_frames_are_those_of_the_video(store):
    put(store, "a", features([1, 2], [0, 0.5], [1, 1], [[1], [2]]))
    split = load_split(store, [Track("a", "test", None, None, None)], fingerprints=PRINTS, name="test")
    assert split.frame_index.tolist() == [1, 2]
    assert not split.labelled.any()
    assert not split.va.any()


def test_a_split_pickles_out_of_band(store):
    put(store, "a", features([1, 2], [0, 0.5], [1, 1], [[1], [2]]))
    split = load_split(store, [Track("a", "test", None, None, None)], fingerprints=PRINTS, name="test")
    buffers = []
    pickle.dumps(split, protocol=5, buffer_callback=buffers.append)
    arrays = list(columns_of(split).values())
    assert all(array.flags.c_contiguous for array in arrays)
    assert sum(buffer.raw().nbytes for buffer in buffers) == sum(array.nbytes for array in arrays)


def test_no_track_is_a_programming_error(store):
    with pytest.raises(ValueError, match="no track"):
        load_split(store, [], fingerprints=PRINTS, name="train")


def test_frames_between_encoded_ones_are_interpolated():
    # 10 frames/s encoded at 5: positions 0, 2, 4, 6; no face was found at 4
    times = np.arange(7) / 10
    values = [[0], [0], [4], [0], [0], [0], [8]]
    sparse = features(range(1, 8), times, [1, 0, 1, 0, 0, 0, 1], values)
    filled = fill_between(sparse, 5.0)
    assert filled.feature[:, 0].tolist() == [0, 2, 4, 0, 0, 0, 8]
    assert filled.present.tolist() == [True, True, True, False, False, False, True]
    np.testing.assert_array_equal(filled.time_s, times)


def test_a_rate_is_read_from_what_the_fingerprint_says(tmp_path):
    store = FeatureStore(tmp_path)
    times = np.arange(5) / 10
    store.write_part("visual", "fp", "t", 0, features(range(1, 6), times, [1, 0, 1, 0, 1], [[0], [0], [4], [0], [8]]))
    store.finalize("visual", "fp", "t", 1)
    store.write_part("audio", "fa", "t", 0, features([1, 2], [0, 1], [1, 1], [[0], [1]]))
    store.finalize("audio", "fa", "t", 1)
    track = [Track("t", "test", None, None, None)]
    before = load_split(store, track, fingerprints={"visual": "fp", "audio": "fa"}, name="test")
    assert before.streams["visual"].present.tolist() == [True, False, True, False, True]
    store.write_spec("visual", "fp", {"stream": {"frame_rate_hz": 5.0}})
    after = load_split(store, track, fingerprints={"visual": "fp", "audio": "fa"}, name="test")
    assert after.streams["visual"].feature[:, 0].tolist() == [0, 2, 4, 6, 8]
    assert after.streams["visual"].present.all()


def test_odd_lines_of_labels_are_masked_where_the_track_says_so(store, tmp_path):
    put(store, "a", features([1, 2, 3], [0, 0.5, 1.0], [1, 1, 1], [1, 2, 3]))
    path = tmp_path / "a.txt"
    path.write_text("valence,arousal\n0.5,0.5\n0.5\n-0.5,0.25\n")
    refused, masked = (Track("a", "train", None, None, labels) for labels in (path, LabelFile(path, "mask")))
    prints = {"visual": "f0", "audio": "f0"}
    with pytest.raises(AnnotationError, match="ANN-COLUMNS"):
        load_split(store, [refused], fingerprints=prints, name="train")
    split = load_split(store, [masked], fingerprints=prints, name="train")
    assert split.labelled.tolist() == [True, False, True]
    assert split.va.tolist() == [[0.5, 0.5], [0, 0], [-0.5, 0.25]]
