"""The training loop in a plain interpreter."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from affectgrid.errors import ConfigError, TrainingError
from affectgrid.metrics import CccAccumulator
from affectgrid.training.checkpoint import CheckpointFolder, load_checkpoint
from affectgrid.training.inference.predict import predict_split
from affectgrid.training.loop import fit
from affectgrid.training.manifest import run_identity
from affectgrid.training.optim import rate_factor
from support.planted import planted_data, small_config, with_streams


@pytest.fixture(scope="module")
def data():
    torch.set_num_threads(1)
    return planted_data()


def run(config, data, **options):
    return fit(config, data.train, data.validation, data.prompts["3x3-plain"], **options)


def weights_equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_planted_relation_is_learnt(data):
    result = run(small_config(optim__epochs=12), data)
    assert result.best["val/p"] > 0.8
    assert result.history[0]["train/loss"] > result.history[-1]["train/loss"]
    assert result.history[0]["train/loss_prompt"] > result.history[-1]["train/loss_prompt"]


def test_an_epoch_reports_every_metric_and_p_best_is_a_running_maximum(data):
    reported = []
    result = run(small_config(optim__epochs=5), data, report=lambda metrics, save: reported.append(metrics))
    assert list(result.history) == reported
    assert set(reported[0]) == {
        "train/loss", "train/loss_ccc", "train/loss_mse", "train/loss_prompt",
        "val/ccc_valence", "val/ccc_arousal", "val/p", "val/p_best", "lr", "epoch",
    }  # fmt: skip
    assert [metrics["epoch"] for metrics in reported] == [1, 2, 3, 4, 5]
    assert [m["val/p_best"] for m in reported] == list(np.maximum.accumulate([m["val/p"] for m in reported]))
    for m in reported:
        assert m["train/loss"] == pytest.approx(m["train/loss_ccc"] + 0.5 * m["train/loss_prompt"], rel=1e-6)
        assert m["val/p"] == pytest.approx((m["val/ccc_valence"] + m["val/ccc_arousal"]) / 2)


def test_the_model_that_is_kept_is_the_best_epoch_s_and_its_score_is_the_ccc_of_all_frames(data):
    config = small_config(optim__epochs=6, optim__lr=0.3)  # so large that the last epoch is not the best
    result = run(config, data)
    assert result.best["epoch"] < 6
    predictions = predict_split(result.model, data.validation, config.window)
    pooled = CccAccumulator()
    pooled.update(predictions.va, torch.as_tensor(data.validation.va), torch.as_tensor(data.validation.labelled))
    assert float(pooled.compute().mean()) == pytest.approx(result.best["val/p"], abs=1e-9)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(data):
    one, again, other = (run(small_config(seed=seed), data) for seed in (1, 1, 2))
    assert one.history == again.history
    assert weights_equal(one.model, again.model)
    assert not weights_equal(one.model, other.model)


def test_fitting_leaves_torch_s_random_state_alone(data):
    before = torch.get_rng_state()
    run(small_config(optim__epochs=1), data)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_resumed_run_ends_in_the_same_bits(data, tmp_path, stop_after):
    """With dropout, moments in the optimizer, and a rate that changes at every step."""
    config = small_config(optim__epochs=5, optim__lr=0.03, model__modality_dropout=0.3)
    whole = run(config, data)
    folder = CheckpointFolder(tmp_path)

    class KilledError(Exception):
        pass

    def report(metrics, save):
        folder.keep(metrics, save)
        if metrics["epoch"] == stop_after:
            raise KilledError

    with pytest.raises(KilledError):
        run(config, data, report=report)
    torch.manual_seed(987)  # whatever the process drew meanwhile
    resumed = run(config, data, resume=folder.load())
    assert resumed.history == whole.history
    assert weights_equal(resumed.model, whole.model)


def test_resuming_a_run_that_is_done_trains_no_more(data, tmp_path):
    config = small_config(optim__epochs=2)
    whole = run(config, data, report=CheckpointFolder(tmp_path).keep)
    reported = []
    again = run(config, data, resume=CheckpointFolder(tmp_path).load(), report=lambda *a: reported.append(a))
    assert not reported
    assert weights_equal(again.model, whole.model)


def test_a_checkpoint_of_another_run_is_refused(data, tmp_path):
    run(small_config(optim__epochs=1), data, report=lambda metrics, save: save(tmp_path / "c"))
    with pytest.raises(TrainingError, match=r"TRAIN-CHANGED .*use another name"):
        run(small_config(optim__epochs=2), data, resume=load_checkpoint(tmp_path / "c"))


def test_identity_changes_with_configuration_labels_and_encoders(data):
    prompts = data.prompts["3x3-plain"]
    relabelled = dataclasses.replace(data.train, va=data.train.va + 0.001)
    encoded = dataclasses.replace(data.train, encoders={"visual": "other"})
    identities = [
        run_identity(small_config(), data.train, data.validation, prompts),
        run_identity(small_config(seed=1), data.train, data.validation, prompts),
        run_identity(small_config(), relabelled, data.validation, prompts),
        run_identity(small_config(), encoded, data.validation, prompts),
    ]
    assert len(set(identities)) == 4
    assert identities[0] == run_identity(small_config(), planted_data().train, data.validation, prompts)


def test_a_loss_that_is_no_number_names_epoch_step_and_mend(data):
    spoilt = with_streams(data.train)
    spoilt.streams["visual"].feature[100] = np.inf  # LayerNorm makes NaN of it
    with pytest.raises(TrainingError, match=r"TRAIN-NAN epoch 1: the loss of step \d of \d is nan.*lower optim\.lr"):
        fit(small_config(), spoilt, data.validation, data.prompts["3x3-plain"])


def test_a_validation_that_is_no_number_is_an_error_and_no_score_of_zero(data):
    spoilt = with_streams(data.validation)
    spoilt.streams["visual"].feature[50] = np.nan
    with pytest.raises(TrainingError, match="TRAIN-NAN epoch 1: a validation prediction"):
        fit(small_config(), data.train, spoilt, data.prompts["3x3-plain"])


@pytest.mark.parametrize("which", ["train", "validation"])
def test_a_split_without_labels_is_an_error_before_the_first_step(data, which):
    split = getattr(data, which)
    bare = dataclasses.replace(data, **{which: dataclasses.replace(split, labelled=np.zeros_like(split.labelled))})
    with pytest.raises(TrainingError, match=f"TRAIN-LABELS split {which}"):
        run(small_config(), bare)


@pytest.mark.parametrize("mode", ["fixed", "learned", "shuffled", "none"])
def test_every_prompt_mode_trains(data, mode):
    history = run(small_config(optim__epochs=1, prompt__mode=mode), data).history
    assert (history[0]["train/loss_prompt"] == 0) == (mode == "none")


def test_a_prompt_loss_without_weight_builds_no_head(data):
    assert run(small_config(optim__epochs=1, prompt__weight=0), data).model.prompt_head is None


def test_one_stream_trains(data):
    result = run(small_config(optim__epochs=1, model__streams=("audio",)), data)
    assert math.isfinite(result.best["val/p"])


def test_prompts_that_were_not_encoded_are_named_with_the_nearest(data):
    with pytest.raises(ConfigError, match=r"CFG-PROMPT prompt.file: '3x3-plane'.*did you mean '3x3-plain'"):
        data.prompts_for(small_config(prompt__file="3x3-plane"))


def test_the_rate_climbs_to_its_peak_and_falls_along_half_a_cosine():
    factors = [rate_factor(step, 12, warmup_share=1 / 6) for step in range(12)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[7] == pytest.approx(0.5)  # half of the ten steps after the warm-up
    assert factors[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.9)))
    assert all(a > b for a, b in itertools.pairwise(factors[2:]))


def test_without_warm_up_the_first_step_has_the_peak():
    assert rate_factor(0, 5, warmup_share=0.0) == 1.0
