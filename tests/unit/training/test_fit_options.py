"""Options of a run: each does what it says, and none breaks an exact resume."""

from __future__ import annotations

import dataclasses
import logging

import pytest
import torch

from affectgrid.metrics import CccAccumulator
from affectgrid.training.batches import Resident
from affectgrid.training.build import build_model
from affectgrid.training.checkpoint import CheckpointFolder, load_checkpoint, random_state, set_random_state
from affectgrid.training.config import TrainConfig
from affectgrid.training.inference.predict import predict_split, predict_tracks
from affectgrid.training.loop import fit
from affectgrid.training.workers import Workers
from support.planted import DIMS, planted_data, planted_split, small_config

EVERYTHING = {
    "model__modality_dropout": 0.3,
    "optim__lr": 0.08,
    "optim__epochs": 8,
    "optim__schedule": "linear",
    "optim__ema_decay": 0.8,
    "optim__region_balance": 0.5,
    "optim__patience": 2,
    "loss__label_smoothing_frames": 2,
    "loss__mse_weight": 0.2,
    "loss__valence_weight": 2.0,
    "window__random_offsets": True,
    "window__label_delay": 1,
}


@pytest.fixture(scope="module")
def data():
    torch.set_num_threads(1)
    return planted_data()


def run(config, data, **options):
    return fit(config, data.train, data.validation, data.prompts["3x3-plain"], **options)


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """An unbroken run with every option, its checkpoint after each epoch, and in the middle of two."""
    folder, places = tmp_path_factory.mktemp("checkpoints"), []

    def report(metrics, save):
        path = folder / f"{metrics['epoch']}-{metrics.get('step', 0)}"
        places.append(save(path))

    asked = iter(range(10**6))
    result = run(small_config(**EVERYTHING), data, report=report, pause=lambda: next(asked) in {1, 6, 7})
    return result, places


def test_early_stopping_ends_the_run_and_keeps_the_best_epoch(whole, data):
    result, _ = whole
    assert len(result.history) < 8  # else patience was not tried
    assert len(result.history) == result.best["epoch"] + 2
    patient = run(small_config(**{**EVERYTHING, "optim__patience": 0}), data)
    assert len(patient.history) == 8
    assert patient.history[: len(result.history)] == result.history  # nothing but the end has changed


def test_the_last_epoch_is_kept_where_that_is_asked_for(whole, data):
    result, _ = whole
    last = run(small_config(**EVERYTHING, optim__keep="last"), data)
    assert [past["val/p"] for past in last.history] == [past["val/p"] for past in result.history]
    assert last.best == last.history[-1]
    assert last.best["val/p"] < result.best["val/p"]  # patience had run out
    assert all(past["val/p_best"] == past["val/p"] for past in last.history)  # what a search would maximise
    found = predict_split(last.model, data.validation, small_config(**EVERYTHING).window)
    pooled = CccAccumulator()
    pooled.update(found.va, torch.as_tensor(data.validation.va), torch.as_tensor(data.validation.labelled))
    assert float(pooled.compute().mean()) == pytest.approx(last.best["val/p"], abs=1e-9)


def test_the_kept_model_has_the_best_score_also_when_it_is_an_average(whole, data):
    result, _ = whole
    found = predict_split(result.model, data.validation, small_config(**EVERYTHING).window)
    pooled = CccAccumulator()
    pooled.update(found.va, torch.as_tensor(data.validation.va), torch.as_tensor(data.validation.labelled))
    assert float(pooled.compute().mean()) == pytest.approx(result.best["val/p"], abs=1e-9)


def test_the_run_goes_on_in_the_same_bits_from_every_epoch_and_from_the_middle_of_one(whole, data):
    result, places = whole
    assert {"0-2", "2-1", "2-2"} <= {place.name for place in places}
    assert len(places) == len(result.history) + 3
    for place in places:
        torch.manual_seed(987)  # whatever the process drew meanwhile
        resumed = run(small_config(**EVERYTHING), data, resume=load_checkpoint(place))
        assert resumed.history == result.history, place.name
        assert same_weights(resumed.model, result.model), place.name


def test_each_worker_takes_up_its_own_random_numbers(data, tmp_path):
    """The second of two workers, alone in this process: of what it gathers only its own part is not zero."""
    second = Workers(rank=1, count=2, gather=lambda own: [torch.zeros_like(own), own])
    config = small_config(optim__epochs=2, model__modality_dropout=0.3)
    asked = iter(range(100))

    def report(metrics, save):
        if "step" in metrics:
            save(tmp_path / "middle")

    unbroken = run(config, data, workers=second, report=report, pause=lambda: next(asked) == 1)
    middle = load_checkpoint(tmp_path / "middle")
    assert run(config, data, workers=second, resume=middle).history == unbroken.history
    # another number of workers: their numbers are drawn anew, and the run continues
    alone = run(config, data, resume=middle)
    assert len(alone.history) == 2
    assert alone.history != unbroken.history


def test_looking_for_a_pause_and_saving_in_it_changes_nothing(whole, data):
    result, _ = whole
    assert run(small_config(**EVERYTHING), data).history == result.history


def test_checkpoints_of_an_epoch_s_middle_are_ordered_by_step(data, tmp_path):
    folder = CheckpointFolder(tmp_path, num_kept=9)
    run(small_config(optim__epochs=2), data, report=folder.keep, pause=lambda: True)
    names = [path.name for path in folder.newest_first()]
    assert names[0] == "epoch-00002"
    assert names[1].startswith("epoch-00001-step-")
    assert names == sorted(names, reverse=True)
    loaded = load_checkpoint(tmp_path / names[1])
    assert (loaded.epoch, loaded.terms.shape[1], loaded.random.shape[0]) == (1, 4, 1)


def test_the_average_is_what_is_validated_and_it_is_not_the_last_weights(data):
    plain, averaged = (run(small_config(optim__epochs=2, optim__ema_decay=decay), data) for decay in (0.0, 0.9))
    assert plain.history[0]["train/loss"] == averaged.history[0]["train/loss"]  # training itself is the same
    assert plain.history[1]["train/loss"] == averaged.history[1]["train/loss"]
    assert plain.history[0]["val/p"] != averaged.history[0]["val/p"]
    assert not same_weights(plain.model, averaged.model)


def test_weights_of_valence_and_arousal_weigh(data):
    arousal_only = run(small_config(optim__epochs=8, prompt__weight=0, loss__valence_weight=0.0), data).history[-1]
    valence_only = run(small_config(optim__epochs=8, prompt__weight=0, loss__arousal_weight=0.0), data).history[-1]
    assert valence_only["val/ccc_valence"] > 0.6 > 0.3 > arousal_only["val/ccc_valence"]
    assert arousal_only["val/ccc_arousal"] > 0.6
    # the paths of valence and arousal resemble each other here, so that arousal is half guessed without having counted
    for last in (arousal_only, valence_only):
        assert last["train/loss"] < last["train/loss_ccc"]  # which holds both axes


def test_squared_error_alone_trains(data):
    history = run(small_config(optim__epochs=8, loss__ccc_weight=0.0, loss__mse_weight=4.0), data).history
    assert history[-1]["train/loss_mse"] < 0.7 * history[0]["train/loss_mse"]
    last = history[-1]
    assert last["train/loss"] == pytest.approx(4 * last["train/loss_mse"] + 0.5 * last["train/loss_prompt"], rel=1e-6)


def test_labels_are_smoothed_for_training_and_not_for_validation(data):
    config = small_config(optim__epochs=1, loss__label_smoothing_frames=5)
    before = data.train.va.copy()
    smoothed, plain = run(config, data).history[0], run(small_config(optim__epochs=1), data).history[0]
    assert smoothed["train/loss_mse"] != plain["train/loss_mse"]
    assert (data.train.va == before).all()  # other trials of this process share the arrays
    constant = dataclasses.replace(data, train=dataclasses.replace(data.train, va=data.train.va * 0 + 0.25))
    same = [run(small_config(optim__epochs=1, loss__label_smoothing_frames=n), constant).history for n in (0, 5)]
    assert same[0] == same[1]  # smoothing is of the labels alone, and a constant is its own mean


def test_region_balance_changes_what_is_drawn(data):
    plain, balanced = (run(small_config(optim__epochs=1, optim__region_balance=b), data).history for b in (0.0, 1.0))
    assert plain[0]["train/loss"] != balanced[0]["train/loss"]


def test_bfloat16_trains_as_well_and_validates_in_float32(data):
    result = run(small_config(optim__epochs=12, optim__precision="bf16"), data)
    assert result.best["val/p"] > 0.8
    assert all(value.dtype == torch.float32 for value in result.model.parameters())
    found = predict_split(result.model, data.validation, small_config().window)
    pooled = CccAccumulator()
    pooled.update(found.va, torch.as_tensor(data.validation.va), torch.as_tensor(data.validation.labelled))
    assert float(pooled.compute().mean()) == pytest.approx(result.best["val/p"], abs=1e-9)


def test_emulated_bfloat16_is_said(data, caplog, monkeypatch):
    monkeypatch.setattr("affectgrid.training.optim.native_half", lambda device: "fp32")
    with caplog.at_level(logging.WARNING):
        run(small_config(optim__epochs=1, optim__precision="bf16"), data)
    assert "slower than fp32" in caplog.text


@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_ccc_of_a_split_is_the_same_over_any_number_of_workers(count):
    split = planted_split("validation", [35, 20, 44, 7])
    prompts = planted_data().prompts["3x3-plain"]
    config = small_config()
    model = build_model(config, dims=DIMS, prompts=prompts)
    resident, offsets = Resident(split), torch.as_tensor(split.offsets)

    def state(bounds):
        rows = slice(int(bounds[0]), int(bounds[-1]))
        own = CccAccumulator()
        own.update(predict_tracks(model, resident, bounds, config.window), resident.va[rows], resident.labelled[rows])
        return own.state()

    shares = [Workers(rank, count).share(offsets) for rank in range(count)]
    merged = CccAccumulator.from_state(torch.stack([state(bounds) for bounds in shares]).sum(0))
    alone = CccAccumulator.from_state(state(offsets))
    assert merged.num_frames == alone.num_frames == split.labelled.sum()
    torch.testing.assert_close(merged.compute(), alone.compute(), atol=1e-6, rtol=0)


def test_a_random_state_goes_on_where_it_was_taken():
    torch.manual_seed(3)
    state = random_state(torch.device("cpu"))
    expected = torch.rand(5)
    set_random_state(state, torch.device("cpu"))
    assert torch.equal(torch.rand(5), expected)


def test_a_small_corpus_can_be_learnt_by_heart():
    split = planted_split("train", [40, 25, 60, 31], noise=0.02)
    config = small_config(
        optim__epochs=60, optim__lr=1e-2, optim__weight_decay=0.0, model__dropout=0.0, model__modality_dropout=0.0
    )
    result = fit(config, split, split, planted_data().prompts["3x3-plain"])
    assert result.best["val/p"] > 0.95


def test_defaults_are_those_of_the_plain_objective():
    config = TrainConfig()
    assert config.loss.va_weights == (1.0, 1.0)
    assert (config.loss.ccc_weight, config.loss.label_smoothing_frames) == (1.0, 0)
    optim = config.optim
    assert (optim.ema_decay, optim.patience, optim.region_balance, optim.precision) == (0.0, 0, 0.0, "fp32")
    assert optim.schedule == "cosine"


def test_nothing_that_cuda_may_choose_is_left_open_while_a_run_lasts(data):
    """A resumed run would not take the same steps otherwise, on a GPU of another kind or with another free memory."""

    def choices() -> tuple[bool, ...]:
        cudnn = torch.backends.cudnn
        return torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, not cudnn.deterministic

    before = choices()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = True
    try:
        found = []
        run(small_config(optim__epochs=1), data, report=lambda metrics, save: found.append(choices()))
        assert found == [(False, False, False, False)]
        assert choices()[0]
        assert choices()[2]
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark = before[0], before[2]
    assert choices() == before
