"""The store on an object store: moto's S3 server on this machine, through the same code as s3:// anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest

from affectgrid.data.catalog import Catalog, read_aff_wild2
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import AudioStream
from affectgrid.data.features.table import FeatureTable
from affectgrid.data.splits.resident import load_split
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.run import encode
from affectgrid.errors import StoreError
from support.planted import columns_of

CONFIG = EncodeConfig(audio=AudioStream(hop_s=0.5), chunk_frames=16, chunk_hops=3, encoders=1)
SECRET = "swordfish"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An empty bucket's address, to be used with a folder's name in place of ``{}``."""
    server_module = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        options = f"scheme=http&endpoint_override={host}:{port}&region=us-east-1"
        fs, _ = pafs.FileSystem.from_uri(f"s3://key:{SECRET}@bucket/?{options}&allow_bucket_creation=true")
        fs.create_dir("bucket")
        yield f"s3://key:{SECRET}@bucket/{{}}?{options}"
    finally:
        server.stop()


def table(first: int = 1, rows: int = 30) -> FeatureTable:
    index = np.arange(first, first + rows, dtype=np.int32)
    feature = np.random.default_rng(first).standard_normal((rows, 8)).astype(np.float16)
    return FeatureTable(index, index / 25, np.ones(rows, bool), feature)


def test_a_remote_store_behaves_as_a_local_one(bucket: str, tmp_path: Path) -> None:
    told = []
    for root in (bucket.format("both"), tmp_path / "both"):
        store = FeatureStore(root)
        store.require_writable()
        assert store.read_records("rows.jsonl") == []
        store.write_records([{"a": 1}, {"a": "ü"}], "rows.jsonl")
        store.write_spec("visual", "f0", {"stream": {"model": "tiny"}})
        store.write_part("visual", "f0", "t", 1, table(31))
        store.write_part("visual", "f0", "t", 0, table(1, 20))
        store.write_part("visual", "f0", "t", 0, table(1, 30))  # replaces the shorter one
        unfinished = (store.unfinished("visual", "f0"), store.parts("visual", "f0", "t"))
        store.finalize("visual", "f0", "t", 2, {"source_sha256": "0"})
        store.write_part("visual", "f0", "t", 0, table())
        store.sweep("visual", "f0")
        store.write_part("visual", "f0", "gone", 0, table())
        store.remove("visual", "f0", "gone")
        read = store.read("visual", "f0", "t")
        told.append(
            (
                unfinished, store.tracks("visual", "f0"),
                store.has("visual", "f0", "t"), store.has("visual", "f0", "u"),
                store.unfinished("visual", "f0"), store.parts("visual", "f0", "t"), store.streams(),
                store.fingerprints("visual"), store.read_spec("visual", "f0"), store.read_records("rows.jsonl"),
                store.size_bytes("visual", "f0"), store.verify(), read.feature.tobytes(), read.frame_index.tolist(),
                store.read_metadata("visual", "f0", "t"),
            )
        )  # fmt: skip
        store.remove_fingerprint("visual", "f0")
        assert store.fingerprints("visual") == ()
    assert told[0] == told[1]


def test_damage_is_named_and_removed(bucket: str) -> None:
    store = FeatureStore(bucket.format("damaged"))
    for track in ("a", "b"):
        store.write_part("visual", "f0", track, 0, table(rows=400))  # features fill the middle of the file
        store.finalize("visual", "f0", track, 1)
    fs, _ = pafs.FileSystem.from_uri(bucket.format("damaged"))
    path = store.track_path("visual", "f0", "a")
    with fs.open_input_file(path) as file:
        data = bytearray(file.read())
    data[len(data) // 2] ^= 1
    with fs.open_output_stream(path) as file:
        file.write(bytes(data))
    (problem,) = store.verify()
    assert (problem.code, problem.where) == ("STO-DAMAGED", "s3://bucket/damaged/visual/f0/a.parquet")
    store.remove_damaged([problem])
    assert store.tracks("visual", "f0") == ("b",)
    assert store.verify() == []


def test_secrets_are_not_shown(bucket: str) -> None:
    store = FeatureStore(bucket.format("shown"))
    assert store.address == "s3://bucket/shown"
    assert store.folder("visual", "f0") == "s3://bucket/shown/visual/f0"
    with pytest.raises(StoreError, match="STO-URI") as caught:
        FeatureStore(f"nosuch://key:{SECRET}@bucket/features")
    assert SECRET not in str(caught.value)


def test_a_bucket_that_is_not_there_is_told_before_any_work(bucket: str) -> None:
    with pytest.raises(StoreError, match="STO-WRITE s3://nowhere/features"):
        FeatureStore(bucket.replace("@bucket/", "@nowhere/").format("features")).require_writable()


@pytest.mark.usefixtures("ray_cluster")
def test_encoding_and_loading_through_an_address(bucket: str, rendered: Path, tmp_path: Path) -> None:
    catalog = Catalog(rendered, read_aff_wild2(rendered).split("train")[:2])
    address = bucket.format("features")
    report = encode(catalog, address, CONFIG)
    assert (report.encoded, report.quarantined) == (4, ())
    local = encode(catalog, tmp_path, CONFIG)
    assert report.fingerprints == local.fingerprints
    prints = report.fingerprints
    far, near = (
        columns_of(load_split(FeatureStore(root), catalog.tracks, fingerprints=prints, name="train"))
        for root in (address, tmp_path)
    )
    for column in near:
        np.testing.assert_array_equal(far[column], near[column])
    store = FeatureStore(address)
    assert store.verify() == []
    assert store.unfinished("visual", report.fingerprints["visual"]) == ()
    again = encode(catalog, address, CONFIG)
    assert (again.encoded, again.skipped) == (0, 4)
    spec = store.read_spec("visual", report.fingerprints["visual"])
    assert json.loads(json.dumps(spec))["stream"]["model"] == "tiny"
