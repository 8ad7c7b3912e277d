"""A corpus and a store in a bucket, on a real cluster: the same numbers as on a disk, whatever a node's cache loses."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.data.splits.feed import FeedOptions, feed
from affectgrid.data.splits.mapped import MappedSplit
from affectgrid.data.splits.resident import Split
from affectgrid.data.workspace import Workspace
from affectgrid.distributed import cluster
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.options import DataOptions
from affectgrid.distributed.prepare import Encoded, encode_data, prepare
from affectgrid.distributed.render import render
from affectgrid.storage import Entry, Storage
from affectgrid.synthetic.rendered import RenderConfig
from support.bucket import Bucket, s3_server

SMALL = RenderConfig(num_train=2, num_validation=1, num_test=0, duration_s=2.0, seed=5)
ENCODE = EncodeConfig(
    visual=VisualStream(frames="labelled"), audio=AudioStream(hop_s=0.5), chunk_frames=16, chunk_hops=3, encoders=2
)


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_server() as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node's cache that holds less than one video."""
    monkeypatch.setenv("AFFECTGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AFFECTGRID_STAGED_GB", "0.00002")
    return tmp_path / "cache"


def same(one: Split, other: Split) -> None:
    assert one.track_ids == other.track_ids
    for field in dataclasses.fields(Split):
        values = getattr(one, field.name), getattr(other, field.name)
        if isinstance(values[0], np.ndarray):
            assert values[0].dtype == values[1].dtype
            np.testing.assert_array_equal(*values, err_msg=field.name)


def features(place: Storage) -> list[Entry]:
    return [entry for entry in place.list_files("out/features", recursive=True) if entry.name.endswith(".parquet")]


def encoded_in(place: Storage, corpus: Storage) -> tuple[Workspace, Encoded]:
    workspace = Workspace.open(place)
    options = DataOptions(data=corpus.uri, encode=ENCODE)
    encoded = encode_data(options, workspace)
    assert encoded.report.quarantined == ()
    return workspace, encoded


def test_from_bucket_to_bucket_as_on_a_disk(bucket: Bucket, cache: Path, tmp_path: Path) -> None:
    far, near = Storage(bucket.uri("all")), Storage(tmp_path / "all")
    with cluster.connect("local", num_cpus=2):
        corpora = [render(place / "corpus", SMALL) for place in (far, near)]
        shutil.rmtree(cache, ignore_errors=True)
        (remote, there), (_, here) = (
            encoded_in(place / "out", corpus) for place, corpus in zip((far, near), corpora, strict=True)
        )
        assert there.report.encoded == here.report.encoded == 8
        assert there.fingerprint == here.fingerprint
        shutil.rmtree(cache)
        for split in ("train", "validation"):
            same(there.plan(split).fill(), here.plan(split).fill())
        before = features(far)
        data = prepare(DataOptions(data=corpora[0].uri, encode=ENCODE), remote, prompt_files=["2x2-plain"])
    assert features(far) == before  # nothing was encoded again
    assert len(before) == 8
    assert not [entry.name for entry in before if "_parts" in entry.name]
    assert remote.root.list_folders() == ["data", "features"]
    (mapped,) = feed([there.plan("train")], FeedOptions(mode="mapped"), remote.mapped)
    assert isinstance(mapped, MappedSplit)
    same(mapped, data.train)
    shutil.rmtree(cache)
    (made_again,) = feed([there.plan("train")], FeedOptions(mode="mapped"), remote.mapped)
    same(made_again, data.train)
