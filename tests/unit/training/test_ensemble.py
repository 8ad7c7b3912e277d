"""Several models as one: their mean, fitted weights, and the file that keeps them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from affectgrid.errors import ConfigError, ModelError
from affectgrid.metrics import CccAccumulator
from affectgrid.reporting.scores import smoothing_lines
from affectgrid.storage import Storage
from affectgrid.training.build import build_model
from affectgrid.training.config import WindowConfig
from affectgrid.training.inference.ensemble import combine, fit_weights, load_ensemble, save_ensemble
from affectgrid.training.inference.package import load_package, save_package
from affectgrid.training.inference.predict import Predictions, predict_split, smooth_tracks
from affectgrid.training.inference.smoothing import SmoothingCurve, keep_choice, smoothing_curve
from affectgrid.windows import smooth
from support.planted import DIMS, planted_prompts, planted_split, small_config, with_streams

ENCODERS = {"visual": "planted", "audio": "planted"}


def package(folder, seed=0, encoders=ENCODERS):
    config, prompts = small_config(seed=seed), planted_prompts()
    model = build_model(config, dims=DIMS, prompts=prompts)
    return save_package(folder, model, config, prompts.grid, encoders=dict(encoders), metrics={"val/p": 0.1})


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return [package(root / f"run-{seed}" / "model", seed) for seed in range(3)]


@pytest.fixture(scope="module")
def split():
    return planted_split("validation", [50, 9, 33])


def p_of(va, target, labelled):
    accumulator = CccAccumulator()
    accumulator.update(va, target, labelled)
    return float(accumulator.compute().mean())


def test_several_packages_speak_with_their_mean(folders, split):
    ensemble = load_ensemble(folders)
    assert ensemble.weights == ((1 / 3, 1 / 3),) * 3
    assert len(ensemble.encoders) == 1
    asked = []
    members = ensemble.predict_members(lambda encoders: asked.append(encoders) or split)
    assert asked == [ENCODERS]  # features of one kind are read once
    found = combine(members, ensemble.weights)
    expected = torch.stack(
        [predict_split(load_package(f).model, split, small_config().window).va for f in folders]
    ).mean(0)
    torch.testing.assert_close(found.va, expected)
    assert found.track_ids == split.track_ids


def test_one_package_is_an_ensemble_of_one(folders, split):
    ensemble = load_ensemble(folders[:1])
    (alone,) = ensemble.predict_members(lambda encoders: split)
    assert torch.equal(combine([alone], ensemble.weights).va, alone.va)


def test_models_of_other_encoders_get_features_of_their_own(folders, split, tmp_path):
    other = package(tmp_path / "other", 7, {"visual": "planted", "audio": "louder"})
    ensemble = load_ensemble([folders[0], other, folders[1]])
    loud = with_streams(split, audio=split.streams["audio"].feature * 2)
    members = ensemble.predict_members(lambda encoders: loud if encoders["audio"] == "louder" else split)
    assert torch.equal(members[1].va, predict_split(load_package(other).model, loud, small_config().window).va)
    assert torch.equal(members[2].va, predict_split(load_package(folders[1]).model, split, small_config().window).va)
    with pytest.raises(ModelError, match=r"ENS-ROWS .*other frames"):
        ensemble.predict_members(
            lambda encoders: planted_split("validation", [8]) if encoders["audio"] == "louder" else split
        )


def test_an_ensemble_file_brings_back_models_and_weights_also_elsewhere(folders, tmp_path):
    weights = ((0.5, 0.25), (0.0, 0.75), (0.5, 0.0))
    ensemble = dataclasses.replace(load_ensemble(folders), weights=weights, fitted=True)
    path = save_ensemble(Storage(tmp_path / "deep" / "ensemble.json"), ensemble)
    loaded = load_ensemble([path])
    assert (loaded.weights, loaded.fitted) == (weights, True)
    assert [place.folder.resolve() for place in loaded.places] == [folder.resolve() for folder in folders]
    assert [member.config.seed for member in loaded.members] == [0, 1, 2]
    content = json.loads(path.folder.read_text())
    assert not any(member["model"].startswith("/") for member in content["members"])
    for member, weight in zip(content["members"], (0.5, 0.2, 0.3), strict=True):
        member["weight"] = weight  # as version 1 had it: one for both axes
    path.folder.write_text(json.dumps(content))
    assert load_ensemble([path]).weights == ((0.5, 0.5), (0.2, 0.2), (0.3, 0.3))


def test_an_ensemble_of_a_model_that_has_changed_is_refused(tmp_path):
    folder = package(tmp_path / "model")
    path = save_ensemble(Storage(tmp_path / "ensemble.json"), load_ensemble([folder, folder]))
    package(folder, seed=5)
    with pytest.raises(ModelError, match="ENS-CHANGED"):
        load_ensemble([path])


@pytest.mark.parametrize("content", ["", "[]", '{"members": [{"model": "x"}], "fitted": false}'])
def test_a_file_that_is_no_ensemble_is_named(tmp_path, content):
    path = tmp_path / "ensemble.json"
    path.write_text(content)
    with pytest.raises(ModelError, match=r"ENS-READ .*ensemble\.json"):
        load_ensemble([path])


def noisy(target, deviations, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [target + d * torch.randn(target.shape, generator=generator) for d in deviations]


def test_fitted_weights_prefer_the_better_model_and_beat_all_that_they_could_have_been():
    target = torch.rand(800, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    labelled = torch.arange(800) % 7 != 0
    members = noisy(target, [torch.tensor([0.2, 0.4]), torch.tensor([0.4, 0.2]), 3.0])
    spoilt = [torch.where(labelled[:, None], own, torch.nan) for own in members]  # frames without a label do not count
    weights = fit_weights(spoilt, target, labelled)
    assert np.sum(weights, 0) == pytest.approx(1)
    assert np.min(weights) >= 0
    assert weights[0][0] > weights[1][0] > weights[2][0]  # the first is the better one at valence
    assert weights[1][1] > weights[0][1] > weights[2][1]  # and the second at arousal

    def ccc(w):
        found = CccAccumulator()
        mixed = sum(torch.tensor(x) * own for x, own in zip(w, members, strict=True))
        found.update(mixed.float(), target, labelled)
        return found.compute()

    best = ccc(weights)
    for a, b in ((x, y) for x in range(11) for y in range(11 - x)):  # mixtures in tenths, single models too
        assert bool((best >= ccc([(x / 10, x / 10) for x in (a, b, 10 - a - b)]) - 1e-6).all())


def test_equal_models_and_a_constant_one_have_weights_too():
    target = torch.rand(50, 2, generator=torch.Generator().manual_seed(1)) - 0.5
    labelled = torch.ones(50, dtype=torch.bool)
    assert np.sum(fit_weights([target, target], target, labelled), 0) == pytest.approx(1)
    weights = fit_weights([torch.zeros(50, 2), target], target, labelled)
    assert np.array(weights) == pytest.approx(np.array([[0, 0], [1, 1]]), abs=1e-3)
    assert fit_weights([target], target, labelled) == ((1, 1),)


def test_a_mean_is_clipped():
    members = [Predictions(("a",), torch.tensor([0, 1]), torch.tensor([[2.0, -3.0]]))] * 2
    assert combine(members, ((0.5, 0.5),) * 2).va.tolist() == [[1, -1]]


def test_tracks_are_smoothed_each_by_itself_and_clipped():
    va = torch.tensor([[0.0, 3.0], [0.4, 3.0], [1.0, 0.0], [0.0, 0.0]])
    found = smooth_tracks(va, torch.tensor([0, 2, 4]), WindowConfig(smooth_half_width=1))
    torch.testing.assert_close(found, torch.tensor([[0.2, 1.0], [0.2, 1.0], [0.5, 0.0], [0.5, 0.0]]))


def test_the_curve_is_p_of_what_the_package_would_predict(folders, split):
    own = load_package(folders[0])
    curve = smoothing_curve([(own, split)], [4, 0, 2, 2])
    assert curve.half_widths == (0, 2, 4)
    labels = torch.as_tensor(split.va), torch.as_tensor(split.labelled)
    for width, *ccc in zip(curve.half_widths, curve.valence, curve.arousal, strict=True):
        window = own.config.window.model_copy(update={"smooth_half_width": width})
        found = CccAccumulator()
        found.update(predict_split(own.model, split, window).va, *labels)
        assert ccc == pytest.approx(found.compute().tolist(), abs=1e-9)
    both = own.config.window.model_copy(update=curve.settings)
    assert curve.p == pytest.approx(p_of(predict_split(own.model, split, both).va, *labels), abs=1e-9)
    assert all(curve.p >= sum(ccc) / 2 for ccc in zip(curve.valence, curve.arousal, strict=True))


def test_the_narrowest_of_equal_widths_is_chosen():
    assert SmoothingCurve((0, 2, 5), (0.4, 0.5, 0.5), (0.3, 0.2, 0.3)).chosen == (2, 0)
    lines = list(smoothing_lines(SmoothingCurve((0, 2), (0.4, 0.5), (0.3, 0.2))))
    assert lines[1:] == [
        "      0: 0.4000 0.3000  best of arousal",
        "      2: 0.5000 0.2000  best of valence",
        "kept in the package: 2 and 0, P 0.4000",
    ]


def test_smoothing_is_chosen_on_validation_alone(folders, split):
    own = load_package(folders[0])
    for name in ("test", "train"):
        with pytest.raises(ConfigError, match=f"CFG-SMOOTH .*{name}.*on validation"):
            smoothing_curve([(own, dataclasses.replace(split, name=name))], [0, 3])
    with pytest.raises(ConfigError, match="CFG-SMOOTH"):
        smoothing_curve([(own, split)], [])


def test_the_choice_is_kept_in_the_package(tmp_path, split):
    folder = package(tmp_path / "model")
    before = load_package(folder)
    now = keep_choice(folder, before, SmoothingCurve((0, 3), (0.1, 0.2), (0.4, 0.3)))
    again = load_package(folder)
    assert now.config == again.config
    assert again.config.window.smooth_half_widths == (3, 0)
    assert again.metrics == before.metrics
    assert json.loads((folder / "manifest.json").read_text())["smoothing"] == {
        "chosen": [3, 0], "split": "validation", "half_widths": [0, 3], "valence": [0.1, 0.2], "arousal": [0.4, 0.3],
    }  # fmt: skip
    plain = predict_split(before.model, split, before.config.window)
    smoothed = predict_split(again.model, split, again.config.window)
    torch.testing.assert_close(smoothed.va[50:59, 0], smooth(plain.va[50:59], 3)[:, 0])
    assert torch.equal(smoothed.va[:, 1], plain.va[:, 1])
