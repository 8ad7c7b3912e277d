"""The feature store: what goes in comes out, whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.table import FeatureTable, schema
from affectgrid.errors import StoreError


def table(first=1, rows=10, dim=4, seed=0, *, boxes=False):
    rng = np.random.default_rng(seed)
    present = rng.random(rows) > 0.3
    box = np.where(present[:, None], 100 * rng.random((rows, 5)), np.nan).astype(np.float32) if boxes else None
    return FeatureTable(
        frame_index=np.arange(first, first + rows, dtype=np.int32),
        time_s=np.arange(first - 1, first - 1 + rows) / 25,
        present=present,
        feature=np.where(present[:, None], rng.standard_normal((rows, dim)), 0).astype(np.float16),
        box=box,
    )


def same(a: FeatureTable, b: FeatureTable):
    for field in dataclasses.fields(FeatureTable):
        one, other = np.asarray(getattr(a, field.name)), np.asarray(getattr(b, field.name))
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "features")


def test_parts_join_to_a_track(store, tmp_path):
    first, second = table(1, 10), table(11, 5, seed=1)
    store.write_part("visual", "f0", "t", 1, second)
    assert store.parts("visual", "f0", "t") == {1: (10, 15)}
    store.write_part("visual", "f0", "t", 0, first)
    assert not store.has("visual", "f0", "t")
    store.finalize("visual", "f0", "t", 2, {"source_sha256": "abc", "encoder": "tiny"})
    assert store.has("visual", "f0", "t")
    assert store.tracks("visual", "f0") == ("t",)
    assert store.parts("visual", "f0", "t") == {}
    got = store.read("visual", "f0", "t")
    np.testing.assert_array_equal(got.frame_index, np.arange(1, 16))
    np.testing.assert_array_equal(got.feature, np.concatenate([first.feature, second.feature]))
    facts = store.read_metadata("visual", "f0", "t")
    assert (facts["source_sha256"], facts["encoder"], facts["units"]["frame_index"]) == ("abc", "tiny", "1-based")
    assert [path.name for path in (tmp_path / "features").rglob("*") if path.is_file()] == ["t.parquet"]


def test_the_file_is_plain_parquet_with_the_promised_schema(store):
    store.write_part("audio", "f0", "t", 0, table())
    store.finalize("audio", "f0", "t", 1)
    stored = pq.read_table(store.track_path("audio", "f0", "t"))
    assert stored.schema.equals(schema(4))
    assert str(stored.schema.field("feature").type) == "fixed_size_list<element: halffloat not null>[4]"


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 40),
    dim=st.integers(1, 9),
    seed=st.integers(0, 99),
    cuts=st.sets(st.integers(1, 39), max_size=4),
    boxes=st.booleans(),
)
def test_any_cut_into_chunks_gives_the_same_bytes(tmp_path_factory, rows, dim, seed, cuts, boxes):
    whole = table(1, rows, dim, seed, boxes=boxes)
    edges = [0, *sorted(cut for cut in cuts if cut < rows), rows]
    hashes = []
    for spans in (list(itertools.pairwise(edges)), [(0, rows)]):
        store = FeatureStore(tmp_path_factory.mktemp("store"))
        for number, (start, stop) in enumerate(spans):
            part = whole.rows(slice(start, stop))
            store.write_part("visual", "f0", "t", number, part)
        store.finalize("visual", "f0", "t", len(spans))
        same(store.read("visual", "f0", "t"), whole)
        hashes.append(hashlib.sha256(Path(store.track_path("visual", "f0", "t")).read_bytes()).hexdigest())
    assert hashes[0] == hashes[1]


def test_times_may_be_unknown(store):
    unknown = dataclasses.replace(table(), time_s=np.full(10, np.nan))
    store.write_part("visual", "f0", "t", 0, unknown)
    store.finalize("visual", "f0", "t", 1)
    same(store.read("visual", "f0", "t"), unknown)


def refused(call, *args):
    with pytest.raises(StoreError) as caught:
        call(*args)
    return caught.value.problems[0].code


def test_missing_gapped_and_overlapping_parts_do_not_join(store):
    assert refused(store.finalize, "visual", "f0", "t", 1) == "STO-PARTS"
    store.write_part("visual", "f0", "t", 0, table(1, 10))
    assert refused(store.finalize, "visual", "f0", "t", 2) == "STO-PARTS"
    store.write_part("visual", "f0", "t", 1, table(12, 5))
    assert refused(store.finalize, "visual", "f0", "t", 2) == "STO-PARTS"
    store.write_part("visual", "f0", "t", 1, table(10, 5))
    assert refused(store.finalize, "visual", "f0", "t", 2) == "STO-PARTS"
    store.write_part("visual", "f0", "t", 1, table(11, 5))
    store.finalize("visual", "f0", "t", 2)
    assert not store.has("visual", "f0", "u")


def test_a_chunk_written_again_with_other_positions_replaces_the_old_one(store):
    store.write_part("visual", "f0", "t", 0, table(1, 10))
    store.write_part("visual", "f0", "t", 0, table(1, 20))
    assert store.parts("visual", "f0", "t") == {0: (0, 20)}


def test_streams_and_fingerprints_do_not_mix(store):
    store.write_part("visual", "f0", "t", 0, table(seed=1))
    store.finalize("visual", "f0", "t", 1)
    store.write_part("visual", "f1", "t", 0, table(seed=2))
    store.finalize("visual", "f1", "t", 1)
    same(store.read("visual", "f0", "t"), table(seed=1))
    same(store.read("visual", "f1", "t"), table(seed=2))
    assert store.fingerprints("visual") == ("f0", "f1")
    assert store.tracks("audio", "f0") == ()
    store.remove("visual", "f0", "t")
    assert not store.has("visual", "f0", "t")
    assert store.has("visual", "f1", "t")


def test_a_file_of_another_place_is_told_by_its_facts(store):
    store.write_part("visual", "f0", "t", 0, table())
    store.finalize("visual", "f0", "t", 1, {"source_sha256": "abc"})
    assert store.read_metadata("visual", "f0", "t")["track"] == "t"
    assert refused(store.read, "visual", "f0", "nobody") == "STO-MISSING"


def test_the_spec_is_readable_json(store, tmp_path):
    store.write_spec("visual", "f0", {"b": 1, "a": "x"})
    assert (tmp_path / "features/visual/f0/fingerprint.json").read_text() == '{\n  "a": "x",\n  "b": 1\n}\n'
    assert store.tracks("visual", "f0") == ()


def test_a_value_changed_by_another_program_is_noticed(store):
    store.write_part("visual", "f0", "t", 0, table())
    store.finalize("visual", "f0", "t", 1)
    path = store.track_path("visual", "f0", "t")
    stored = pq.read_table(path)
    for name, column in (
        ("time_s", stored["time_s"].to_numpy() + 1),
        ("frame_index", np.arange(2, 12, dtype=np.int32)),
    ):
        place = stored.schema.get_field_index(name)
        pq.write_table(stored.set_column(place, stored.schema.field(name), [column]), path)
        with pytest.raises(StoreError, match="checksum does not match"):
            store.read("visual", "f0", "t")


@pytest.mark.parametrize("name", ["../out", "a/b", "", ".hidden", "nul\0", "x" * 300])
def test_ids_cannot_leave_the_store(store, name):
    assert refused(store.has, "visual", "f0", name) == "STO-NAME"


def test_wrong_arrays_are_programming_errors():
    good = table()
    for change in (
        {"feature": good.feature.astype(np.float32)},
        {"feature": good.feature[:5]},
        {"frame_index": good.frame_index[::-1].copy()},
        {"frame_index": good.frame_index - np.int32(1)},
        {"feature": np.full_like(good.feature, np.inf)},
    ):
        with pytest.raises(ValueError, match=r"needs|ascend|finite"):
            dataclasses.replace(good, **change)


def test_a_store_by_uri(tmp_path):
    store = FeatureStore((tmp_path / "by uri").as_uri())
    store.write_part("visual", "f0", "t", 0, table())
    store.finalize("visual", "f0", "t", 1)
    same(FeatureStore(tmp_path / "by uri").read("visual", "f0", "t"), table())
