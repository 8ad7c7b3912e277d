"""Encoding a corpus by OpenVINO in int8: one quantised model for all workers, kept in the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from affectgrid.data.catalog import Catalog, read_aff_wild2
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.loading import stream_jobs
from affectgrid.distributed.encode.run import encode, plan_encode
from affectgrid.encoders.runtime.quantised import FOLDER, Quantised
from affectgrid.encoders.visual import load_visual
from affectgrid.errors import ConfigError
from affectgrid.media.faces.crops import list_crops, read_crop
from affectgrid.storage import Storage
from support.runtimes import needs_openvino

pytestmark = pytest.mark.usefixtures("ray_cluster")
INT8 = EncodeConfig(
    visual=VisualStream(runtime="openvino", precision="int8"),
    audio=AudioStream(hop_s=0.5, runtime="openvino", precision="int8"),
    chunk_frames=16,
)


@pytest.fixture
def catalog(rendered: Path) -> Catalog:
    whole = read_aff_wild2(rendered)
    return Catalog(whole.root, whole.tracks[:2])


def kept(root: Path) -> list[str]:
    return [entry.name for entry in Storage(root).list_files(FOLDER)]


@needs_openvino
def test_the_features_are_those_of_the_int8_model_in_the_store(catalog: Catalog, tmp_path: Path) -> None:
    report = encode(catalog, tmp_path, INT8)
    assert report.quarantined == ()
    store = FeatureStore(tmp_path)
    assert store.streams() == ("audio", "visual")
    models = [Quantised(Storage(tmp_path), *name.removesuffix(".npz").split("-")) for name in kept(tmp_path)]
    shapes = {model: np.load(tmp_path / model.name)["sample"].ndim for model in models}
    (pictures,) = (model for model, ndim in shapes.items() if ndim == 4)
    assert len(shapes) == 2
    encoder = load_visual("tiny", runtime="openvino", precision="int8", quantised=pictures)
    spec = store.read_spec("visual", report.fingerprints["visual"])
    assert spec["encoder"] == encoder.digest
    track = catalog.tracks[0]
    assert track.crops is not None
    crops = list_crops(track.crops)
    table = store.read("visual", report.fingerprints["visual"], track.id)
    for index in (min(crops), max(crops)):
        alone = encoder.encode_images(encoder.preprocess(read_crop(crops[index]))[None])[0]
        stored = torch.from_numpy(table.feature[index - 1].astype(np.float32))
        torch.testing.assert_close(stored, alone, atol=2e-3, rtol=2e-3)
    again = encode(catalog, tmp_path, INT8)
    assert (again.encoded, again.fingerprints) == (0, report.fingerprints)


@needs_openvino
def test_a_plan_in_int8_only_reads_the_store(catalog: Catalog, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("AFFECTGRID_CACHE", str(tmp_path / "cache"))
    store = tmp_path / "store"
    plan, failed = plan_encode(catalog, store, INT8, calibrated=False)
    assert (len(kept(tmp_path / "cache")), failed) == (2, [])
    assert all(stream.todo.units for stream in plan.streams)
    assert not store.exists()


def test_openvino_is_refused_where_the_encoders_have_gpus(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"CFG-RUNTIME encode.visual.runtime: .*in a cluster with GPUs"):
        stream_jobs(INT8.visual, INT8.audio, catalog.tracks, INT8.limits, FeatureStore(tmp_path), half="bf16")
