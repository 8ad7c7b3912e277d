"""The model package: what was trained is what is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from affectgrid.data.features.imported import imported_by
from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.errors import ModelError
from affectgrid.regions import RegionGrid
from affectgrid.training.build import build_model
from affectgrid.training.config import METHOD_VERSION
from affectgrid.training.inference.package import carry_encoders, load_package, save_package
from affectgrid.training.inference.predict import predict_split
from affectgrid.training.manifest import collect
from support.planted import DIMS, planted_prompts, planted_split, small_config


def write(folder, config=None, grid=None):
    config = config or small_config()
    prompts = planted_prompts(grid)
    model = build_model(config, dims=DIMS, prompts=prompts)
    facts = {"encoders": {"visual": "tiny"}, "metrics": {"val/p": 0.5}, "manifest": collect(data="abc")}
    save_package(folder, model, config, prompts.grid, **facts)
    return model


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"prompt__mode": "none"},
        {"prompt__mode": "learned"},
        {"model__streams": ("visual",)},
        {"model__streams": ("audio",)},
    ],
)
def test_a_loaded_model_predicts_the_same_bits(tmp_path, settings):
    config = small_config(seed=3, **settings)
    model = write(tmp_path / "model", config)
    package = load_package(tmp_path / "model")
    split = planted_split("validation", [30, 12])
    expected = predict_split(model, split, config.window).va
    assert torch.equal(predict_split(package.model, split, package.config.window).va, expected)
    assert package.config == config


def test_grid_metrics_and_origin_come_along(tmp_path):
    write(tmp_path / "model", grid=RegionGrid.polar(8))
    package = load_package(tmp_path / "model")
    assert package.grid == RegionGrid.polar(8)
    assert package.metrics == {"val/p": 0.5}
    assert package.encoders == {"visual": "tiny"}
    assert package.manifest is not None
    assert package.manifest["data"] == "abc"
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"config.json", "grid.json", "model.safetensors", "manifest.json"}


def test_saving_again_replaces(tmp_path):
    write(tmp_path / "model")
    write(tmp_path / "model", small_config(seed=9))
    assert load_package(tmp_path / "model").config.seed == 9
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_weights_of_another_shape_name_the_first_tensors_that_differ(tmp_path):
    write(tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    weights = load_file(path)
    weights["va_head.weight"] = torch.zeros(2, 17)
    weights["extra"] = torch.zeros(1)
    save_file(weights, path)
    with pytest.raises(
        ModelError, match=r"PKG-SHAPE .*extra \(1,\) instead of none; va_head.weight \(2, 17\) instead of \(2, 16\)"
    ):
        load_package(tmp_path / "model")


def test_an_unknown_setting_a_cut_file_and_a_missing_folder_are_told(tmp_path):
    with pytest.raises(ModelError, match="PKG-READ"):
        load_package(tmp_path / "absent")
    write(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    whole = config.read_text()
    config.write_text(json.dumps({"version": METHOD_VERSION, "config": {"lr": 1}}))
    with pytest.raises(ModelError, match="lr"):
        load_package(tmp_path / "model")
    config.write_text(json.dumps({"version": 1, "config": {}}))
    with pytest.raises(ModelError, match=r"PKG-VERSION .*: version 1 of the method"):
        load_package(tmp_path / "model")
    config.write_text(whole)
    path = tmp_path / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match="PKG-READ"):
        load_package(tmp_path / "model")


def test_encoders_that_are_directories_go_along_and_names_stay_names(tmp_path):
    (tmp_path / "tower").mkdir()
    (tmp_path / "tower" / "weights.safetensors").write_bytes(b"weights")
    (tmp_path / "points.dat").write_bytes(b"points")
    visual = VisualStream(model=str(tmp_path / "tower"), landmarks=tmp_path / "points.dat")
    audio = AudioStream(model="MIT/ast")
    encoders = {"visual": visual.model, "audio": audio.model, "landmarks": "mediapipe"}
    encoders |= {"visual_stream": visual.model_dump_json(), "audio_stream": audio.model_dump_json()}
    encoders |= {"landmarks_stream": json.dumps({"imported": "mediapipe", "fingerprint": "0123456789abcdef"})}
    config, prompts = small_config(), planted_prompts()
    model = build_model(config, dims=DIMS, prompts=prompts)
    folder = save_package(tmp_path / "made", model, config, prompts.grid, encoders=encoders, metrics={})
    carry_encoders(folder)
    shutil.rmtree(tmp_path / "tower")
    moved = folder.rename(tmp_path / "moved")
    found = load_package(moved).encoders
    read = VisualStream.model_validate_json(found["visual_stream"])
    assert found["visual"] == read.model
    assert (moved in Path(read.model).parents, Path(read.model, "weights.safetensors").read_bytes()) == (
        True,
        b"weights",
    )
    assert read.landmarks is not None
    assert read.landmarks.read_bytes() == b"points"
    assert AudioStream.model_validate_json(found["audio_stream"]) == audio
    assert {name: found[name] for name in ("audio", "landmarks")} == {"audio": "MIT/ast", "landmarks": "mediapipe"}
    assert imported_by(found)[0].source == "mediapipe"
