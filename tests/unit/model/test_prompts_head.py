import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from affectgrid.model.prompts import (
    INITIAL_SCALE,
    MAX_SCALE,
    PromptBank,
    PromptHead,
    build_prompt_features,
    derangement,
)


def texts(num_regions: int = 5, dim: int = 8) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [(k + 1) * torch.randn(k % 3 + 1, dim, generator=generator) for k in range(num_regions)]


def test_ensemble_averages_directions_not_lengths():
    region = torch.tensor([[3.0, 0.0], [0.0, 0.5]])
    features = build_prompt_features([region, region[:1]], "ensemble", 0)
    torch.testing.assert_close(features, torch.tensor([[0.5**0.5, 0.5**0.5], [1.0, 0.0]]))


def test_fixed_takes_the_first_text():
    given_texts = texts()
    expected = torch.stack([normalize(region[0], dim=0) for region in given_texts])
    torch.testing.assert_close(build_prompt_features(given_texts, "fixed", 0), expected)


@pytest.mark.parametrize("mode", ["fixed", "ensemble", "learned", "shuffled"])
def test_features_are_unit_vectors(mode):
    features = build_prompt_features(texts(), mode, 0)
    assert features.shape == (5, 8)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(5))


def test_learned_features_know_nothing_of_the_texts():
    other = [region + 3 for region in texts()]
    assert torch.equal(build_prompt_features(texts(), "learned", 4), build_prompt_features(other, "learned", 4))
    assert not torch.equal(build_prompt_features(texts(), "learned", 4), build_prompt_features(texts(), "learned", 5))


@given(st.integers(2, 30), st.integers(0, 1000))
def test_shuffled_gives_no_region_its_own_text_and_loses_none(num_regions, seed):
    given_texts = texts(num_regions)
    ensemble = build_prompt_features(given_texts, "ensemble", seed)
    shuffled = build_prompt_features(given_texts, "shuffled", seed)
    assert not bool((shuffled == ensemble).all(-1).any())
    source = [int((row == ensemble).all(-1).nonzero()) for row in shuffled]
    assert sorted(source) == list(range(num_regions))


def test_derangements_are_drawn_evenly():
    generator = torch.Generator().manual_seed(0)
    drawn = [tuple(derangement(4, generator).tolist()) for _ in range(1800)]
    counts = {order: drawn.count(order) for order in set(drawn)}
    assert len(counts) == 9  # !4
    assert min(counts.values()) > 140  # 200 expected, spread 13


def test_one_region_has_no_derangement():
    with pytest.raises(ValueError, match="no derangement of 1"):
        derangement(1, torch.Generator())


def test_none_has_no_bank_and_a_region_needs_a_text():
    assert PromptBank.build(texts(), "none", 0) is None
    with pytest.raises(ValueError, match="at least one text"):
        PromptBank.build([torch.zeros(1, 3), torch.zeros(0, 3)], "ensemble", 0)


def test_only_learned_prompts_learn():
    learnable = {mode: PromptBank.build(texts(), mode, 0).learnable for mode in ("fixed", "ensemble", "shuffled")}
    assert not any(learnable.values())
    assert PromptBank.build(texts(), "learned", 0).learnable


def make_head(features: torch.Tensor, *, learnable: bool = False) -> PromptHead:
    head = PromptHead(2, features, learnable=learnable)
    with torch.no_grad():
        head.project.weight.copy_(torch.eye(2))
        head.project.bias.zero_()
    return head


def test_logits_by_hand():
    head = make_head(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    logits = head(torch.tensor([[[3.0, 4.0]]]))  # cosines .6, .8, -.6, whatever the length
    torch.testing.assert_close(logits, torch.tensor([[[0.6, 0.8, -0.6]]]) / 0.07)


def test_logits_equal_the_plain_formula():
    torch.manual_seed(0)
    head = PromptHead(6, torch.randn(5, 40), learnable=True)
    states = 3 * torch.randn(2, 7, 6)
    plain = normalize(head.project(states), dim=-1) @ normalize(head.text_features, dim=-1).T / 0.07
    got = head(states)
    torch.testing.assert_close(got, plain, rtol=1e-4, atol=1e-5)
    weights, leaves = torch.randn(2, 7, 5), [head.project.weight, head.project.bias, head.text_features]
    for own, theirs in zip(*(torch.autograd.grad((y * weights).sum(), leaves) for y in (got, plain)), strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4)


def test_logits_keep_full_precision_under_autocast():
    head, states = PromptHead(6, torch.randn(5, 40), learnable=False), torch.randn(2, 7, 6)
    with torch.autocast("cpu", torch.bfloat16):
        inside = head(states)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, head(states))


def test_learned_vectors_count_by_direction_alone():
    head = make_head(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), learnable=True)
    before = head(torch.tensor([[[3.0, 4.0]]]))
    with torch.no_grad():
        head.text_features.mul_(7)
    torch.testing.assert_close(head(torch.tensor([[[3.0, 4.0]]])), before)


def test_the_scale_starts_at_clips_and_is_held_below_its_limit():
    head = make_head(torch.eye(2)).train()
    assert float(head.scale.detach()) == pytest.approx(INITIAL_SCALE)
    optimizer = torch.optim.SGD([head.log_scale], lr=1.0)
    for direction in (-1, 1):  # up against the limit, then away from it: the clamp must not hold it for good
        for _ in range(8):
            logits = head(torch.tensor([[[1.0, 0.0]]]))
            assert float(logits.detach().max()) <= MAX_SCALE * (1 + 1e-5)
            optimizer.zero_grad()
            (direction * logits[..., 0].sum() / 20).backward()
            optimizer.step()
        if direction == -1:
            assert float(head.log_scale.detach()) > math.log(MAX_SCALE)  # the step overshoots until the next forward
    assert float(head.scale.detach()) < INITIAL_SCALE


def test_a_scale_that_the_last_step_lifted_over_its_limit_is_held_in_evaluation_too():
    head = make_head(torch.eye(2)).eval()
    with torch.no_grad():
        head.log_scale.fill_(10)
    assert float(head(torch.tensor([[[1.0, 0.0]]])).detach().max()) <= MAX_SCALE * (1 + 1e-5)


def test_rotated_features_keep_every_angle_and_nothing_else():
    texts = [torch.randn(3, 12, generator=torch.Generator().manual_seed(k)) for k in range(5)]
    ensemble, rotated = (build_prompt_features(texts, mode, seed=1) for mode in ("ensemble", "rotated"))
    torch.testing.assert_close(rotated @ rotated.T, ensemble @ ensemble.T, rtol=1e-5, atol=1e-5)
    assert float((rotated * ensemble).sum(-1).abs().max()) < 0.9
    assert not torch.allclose(build_prompt_features(texts, "rotated", seed=2), rotated)


def test_a_bank_is_copied_into_the_head():
    bank = PromptBank.build(texts(), "learned", 0)
    head = PromptHead(3, bank.features, learnable=True)
    with torch.no_grad():
        head.text_features.zero_()
    assert float(bank.features.norm()) > 0
