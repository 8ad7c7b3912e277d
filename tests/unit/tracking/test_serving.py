"""A model that takes videos: in this process, and with the numbers of the package."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from affectgrid.data.catalog import read_folder
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.data.splits.resident import load_split
from affectgrid.distributed.encode.in_process import LocalEncoder
from affectgrid.distributed.options import encoding_for
from affectgrid.tracking import models
from affectgrid.training.build import build_model
from affectgrid.training.inference.package import load_package, save_package
from affectgrid.training.inference.predict import predict_split
from support.planted import planted_prompts, small_config
from support.small_corpus import film

ENCODERS = {
    "visual": "tiny",
    "audio": "tiny",
    "visual_stream": VisualStream(crop="frame").model_dump_json(),
    "audio_stream": AudioStream(window_s=0.5).model_dump_json(),
}
NUM_FRAMES = 30


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("films") / "a clip.mp4", num_frames=NUM_FRAMES, sound_s=1.0)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of whole frames, so that no face is looked for; it reads an imported stream too, which a video lacks."""
    config, prompts = small_config(model__streams=("visual", "audio", "landmarks")), planted_prompts()
    model = build_model(config, dims={"visual": 128, "audio": 64, "landmarks": 3}, prompts=prompts)
    folder = tmp_path_factory.mktemp("package") / "model"
    return save_package(folder, model, config, prompts.grid, encoders=ENCODERS, metrics={})


@pytest.fixture(scope="module")
def served(package: Path, tmp_path_factory: pytest.TempPathFactory) -> mlflow.pyfunc.PyFuncModel:
    return mlflow.pyfunc.load_model(str(models.write_model(package, tmp_path_factory.mktemp("served") / "model")))


@pytest.fixture(scope="module")
def expected(clip: Path, package: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Encoded into a store, and predicted from there."""
    store, catalog, own = FeatureStore(tmp_path_factory.mktemp("store")), read_folder(clip), load_package(package)
    report = LocalEncoder(store).encode(catalog, encoding_for(own.encoders, catalog))
    assert (report.quarantined, report.encoded) == ((), 2)
    split = load_split(store, catalog.tracks, fingerprints=report.fingerprints, name="predict")
    split = split.with_absent(own.model.feature_dims)
    assert split.streams["visual"].present.all()
    assert split.streams["audio"].present.any()
    return predict_split(own.model, split, own.config.window).va.numpy()


@pytest.fixture(scope="module")
def address(clip: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(clip.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_video_is_given_by_its_path_its_content_or_its_address(
    served: mlflow.pyfunc.PyFuncModel, clip: Path, address: str, expected: np.ndarray
):
    given = [
        {"video": str(clip)},
        {"content": clip.read_bytes(), "track": "mine"},
        {"video": f"{address}/a%20clip.mp4"},
    ]
    table = served.predict(pd.DataFrame(given))
    assert table["track"].unique().tolist() == ["a clip", "mine"]
    assert "face_found" not in table
    for number in range(len(given)):
        own = table[table["input"] == number]
        assert own["frame"].tolist() == list(range(1, NUM_FRAMES + 1))
        np.testing.assert_array_equal(own[["valence", "arousal"]].to_numpy(np.float32), expected)
    np.testing.assert_allclose(table["time_s"][:NUM_FRAMES], np.arange(NUM_FRAMES) / 25, atol=1e-3)


def test_a_file_that_changes_under_its_name_is_read_again(served: mlflow.pyfunc.PyFuncModel, tmp_path: Path):
    lengths = []
    for num_frames in (12, 20):
        film(tmp_path / "live.mp4", num_frames=num_frames)
        lengths.append(len(served.predict([{"video": str(tmp_path / "live.mp4")}])))
    assert lengths == [12, 20]


def test_what_is_no_video_is_told(served: mlflow.pyfunc.PyFuncModel, tmp_path: Path, address: str):
    (tmp_path / "torn.mp4").write_bytes(b"no video" * 1000)
    torn, absent, lost = str(tmp_path / "torn.mp4"), str(tmp_path / "absent.mp4"), f"{address}/x.mp4"
    for video, code in {torn: "PRED-NONE", absent: "CAT-ROOT", lost: "PRED-NONE .*404"}.items():
        with pytest.raises(MlflowException, match=code):
            served.predict([{"video": video}])


def test_an_encoder_of_another_width_is_told(package: Path, clip: Path, tmp_path: Path):
    config, prompts = small_config(), planted_prompts()
    model = build_model(config, dims={"visual": 96, "audio": 64}, prompts=prompts)
    other = save_package(tmp_path / "other", model, config, prompts.grid, encoders=ENCODERS, metrics={})
    served = mlflow.pyfunc.load_model(str(models.write_model(other, tmp_path / "served")))
    with pytest.raises(MlflowException, match=r"PKG-ENCODER .*'visual': 128"):
        served.predict([{"video": str(clip)}])


def test_a_model_of_videos_pins_what_decodes_and_encodes_them(package: Path):
    pins = {line.partition("==")[0] for line in models.requirements(load_package(package))}
    assert {"av", "transformers", "open_clip_torch"} <= pins
    assert not {"ray", "dlib-bin"} & pins  # a model of whole frames looks for no face


def test_int8_encoders_are_no_others_and_openvino_and_mtcnn_are_pinned(package: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(models.importlib.metadata, "version", lambda name: "1")
    audio = AudioStream(runtime="openvino", precision="bf16").model_dump_json()
    visual = VisualStream(crop="detect", detector="mtcnn").model_dump_json()
    encoders = {**ENCODERS, "visual_stream": visual, "audio_stream": audio}
    other = dataclasses.replace(load_package(package), encoders=encoders)
    assert {"openvino==1", "mtcnn==1"} <= set(models.requirements(other))
    int8 = VisualStream(runtime="openvino", precision="int8").model_dump_json()
    other = dataclasses.replace(other, encoders={**encoders, "visual_stream": int8})
    assert not models.reads_videos(other)
    assert "av==1" not in models.requirements(other)
