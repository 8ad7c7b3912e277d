import math

import pytest
import torch
from torch import Tensor

from affectgrid.losses import batch_moments, ccc_from_moments, objective, soft_cross_entropy
from affectgrid.metrics import ccc
from affectgrid.model.fusion import FusionOutput
from affectgrid.regions import RegionGrid, soft_labels

GRID = RegionGrid.square(3)


def batch(num_windows: int = 4, num_frames: int = 12, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (num_windows, num_frames)
    va = torch.rand(*shape, 2, generator=generator) * 2 - 1
    return {
        "prediction": torch.tanh(va + 0.5 * torch.randn(*shape, 2, generator=generator)),
        "logits": torch.randn(*shape, 9, generator=generator),
        "va": va,
        "mask": torch.rand(*shape, generator=generator) < 0.7,
        "soft": soft_labels(va, GRID, sigma=0.3),
    }


def evaluate(data: dict[str, Tensor], mse_weight: float = 0.3, prompt_weight: float = 0.7, **how):
    output = FusionOutput(data["prediction"], data["logits"], None)
    weights = {"mse_weight": mse_weight, "prompt_weight": prompt_weight}
    return objective(output, data["va"], data["mask"], data["soft"], **weights, **how)


def test_objective_by_hand():
    # valence: targets -1 0 1 shifted by 1, CCC 4/7, squared error 1; arousal: exact; uniform logits: log 2 nats
    va = torch.tensor([[[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]]])
    output = FusionOutput(va + torch.tensor([1.0, 0.0]), torch.zeros(1, 3, 2), None)
    soft = torch.tensor([[[1.0, 0.0], [0.25, 0.75], [0.5, 0.5]]])
    terms = objective(output, va, torch.ones(1, 3, dtype=torch.bool), soft, mse_weight=2.0, prompt_weight=3.0)
    assert float(terms.ccc) == pytest.approx(3 / 7)
    assert float(terms.mse) == pytest.approx(1 / 2)
    assert float(terms.prompt) == pytest.approx(math.log(2))
    assert float(terms.total) == pytest.approx(3 / 7 + 2 * 1 / 2 + 3 * math.log(2))


def test_weights_of_the_axes_by_hand():
    # as above: valence costs 3/7 and has a squared error of 1; arousal is off by 1/2: CCC 2 (2/3) / (4/3 + 1/4) = 16/19
    va = torch.tensor([[[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]]])
    output = FusionOutput(va + torch.tensor([1.0, 0.5]), None, None)
    terms = objective(
        output, va, torch.ones(1, 3, dtype=torch.bool), None,
        mse_weight=2.0, prompt_weight=0.0, ccc_weight=5.0, va_weights=(3.0, 0.25),
    )  # fmt: skip
    assert float(terms.total) == pytest.approx(5 * (3 * 3 / 7 + 0.25 * 3 / 19) + 2 * (3 * 1 + 0.25 * 0.25) / 2)
    assert float(terms.ccc) == pytest.approx(3 / 7 + 3 / 19)  # what is reported is not weighted
    assert float(terms.mse) == pytest.approx((1 + 0.25) / 2)


def test_objective_gradient_by_hand():
    # one axis counts; x = y + 1 as below, so d(1 - C)/dx is known; MSE over both axes: d/dx_i = 2 (x_i - y_i) / 3 / 2
    y = torch.tensor([-1.0, 0.0, 1.0])
    va = torch.stack([y, torch.zeros(3)], 1)[None]
    prediction = (va + torch.tensor([1.0, 0.0])).requires_grad_()
    logits = torch.zeros(1, 3, 2, requires_grad=True)
    soft = torch.tensor([[[1.0, 0.0], [0.5, 0.5], [0.25, 0.75]]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    objective(
        FusionOutput(prediction, logits, None), va, mask, soft, mse_weight=0.6, prompt_weight=3.0, va_weights=(1.0, 0.0)
    ).total.backward()
    ccc_gradient = [-(2 * yi / 3 - 4 / 7 * 2 * (yi + 1) / 3) / (7 / 3) for yi in (-1.0, 0.0, 1.0)]
    torch.testing.assert_close(prediction.grad[0, :, 0], torch.tensor([g + 0.6 / 3 for g in ccc_gradient]))
    assert prediction.grad[0, :, 1].abs().sum() == 0
    torch.testing.assert_close(logits.grad, (0.5 - soft))  # 3 (softmax - q) over 3 frames


def test_ccc_gradient_by_hand():
    # x = y + 1, y = -1 0 1: C = 2 s / D with s = cov = 2/3, D = 7/3. dC/dx_i = (2 ds - C dD) / D with
    # ds = (y_i - 0) / 3, dD = 2 (x_i - 1) / 3 + 2 * 1 / 3 = 2 x_i / 3
    y = torch.tensor([-1.0, 0.0, 1.0])
    x = (y + 1).requires_grad_()
    moments = batch_moments(x[:, None], y[:, None], torch.ones(3, dtype=torch.bool))
    ccc_from_moments(moments).sum().backward()
    expected = [(2 * yi / 3 - 4 / 7 * 2 * (yi + 1) / 3) / (7 / 3) for yi in (-1.0, 0.0, 1.0)]
    torch.testing.assert_close(x.grad, torch.tensor(expected))


def test_cross_entropy_gradient_is_softmax_minus_soft_label():
    data = batch()
    logits = data["logits"].requires_grad_()
    soft_cross_entropy(logits, data["soft"], data["mask"]).backward()
    expected = torch.where(data["mask"][..., None], logits.softmax(-1) - data["soft"], 0)
    torch.testing.assert_close(logits.grad, expected.detach())


def test_cross_entropy_takes_labels_of_exactly_zero():
    one_hot = torch.tensor([[1.0, 0.0]])
    loss = soft_cross_entropy(torch.tensor([[0.0, 200.0]]), one_hot, torch.tensor([True]))
    assert float(loss) == pytest.approx(200)


def test_terms_equal_the_plain_formulas():
    data = batch()
    mask, p, t = data["mask"], data["prediction"], data["va"]
    terms = evaluate(data)
    plain_ccc = sum(1 - ccc(p[..., d], t[..., d], mask) for d in (0, 1))
    torch.testing.assert_close(terms.ccc.float(), plain_ccc)
    torch.testing.assert_close(terms.mse.float(), torch.nn.functional.mse_loss(p[mask], t[mask]))
    plain = torch.nn.functional.cross_entropy(data["logits"][mask], data["soft"][mask])
    torch.testing.assert_close(terms.prompt.float(), plain)
    torch.testing.assert_close(terms.total, terms.ccc + 0.3 * terms.mse + 0.7 * terms.prompt)


def test_gradients_are_those_of_finite_differences():
    data = batch(2, 5)
    p, logits = data["prediction"].double(), data["logits"].double()
    with_grad = {**data, "va": data["va"].double(), "soft": data["soft"].double()}

    def total(prediction: Tensor, region_logits: Tensor) -> Tensor:
        return evaluate({**with_grad, "prediction": prediction, "logits": region_logits}).total

    # the cross entropy runs in float32 by design, hence only the regression is checked to float64's precision
    assert torch.autograd.gradcheck(lambda x: total(x, logits), p.requires_grad_())


def test_values_under_the_mask_never_matter():
    clean, spoilt = batch(), batch()
    for name in ("va", "soft", "prediction", "logits"):
        spoilt[name] = torch.where(clean["mask"][..., None], clean[name], torch.nan)
    for data in (clean, spoilt):
        data["prediction"].requires_grad_()
        data["logits"].requires_grad_()
    one, other = evaluate(clean), evaluate(spoilt)
    torch.testing.assert_close(other, one)
    one.total.backward()
    other.total.backward()
    for name in ("prediction", "logits"):
        torch.testing.assert_close(spoilt[name].grad, clean[name].grad)
        assert bool((clean[name].grad[~clean["mask"]] == 0).all())


def test_a_batch_without_a_frame_costs_and_moves_nothing():
    data = batch()
    data["mask"][:] = False
    data["prediction"].requires_grad_()
    terms = evaluate(data)
    assert float(terms.total.detach()) == 0
    terms.total.backward()
    assert bool((data["prediction"].grad == 0).all())


@pytest.mark.parametrize("constant", [0.0, 0.3])
def test_a_constant_prediction_costs_its_full_ccc_and_has_a_finite_gradient(constant):
    data = batch()
    data["prediction"] = torch.full_like(data["va"], constant).requires_grad_()
    terms = evaluate(data, 0, 0)
    assert float(terms.ccc.detach()) == pytest.approx(2)
    terms.total.backward()
    assert bool(torch.isfinite(data["prediction"].grad).all())
    assert float(data["prediction"].grad.abs().sum()) > 0  # it can leave the constant


def test_constant_labels_met_exactly_have_a_finite_gradient():
    data = batch()
    data["va"] = torch.full_like(data["va"], 0.3)
    data["prediction"] = torch.full_like(data["va"], 0.3).requires_grad_()
    evaluate(data).total.backward()
    assert bool(torch.isfinite(data["prediction"].grad).all())


def test_without_prompts_the_prompt_term_is_zero():
    data = batch()
    output = FusionOutput(data["prediction"], None, None)
    terms = objective(output, data["va"], data["mask"], None, mse_weight=0, prompt_weight=5)
    assert float(terms.prompt) == 0
    assert float(terms.total) == pytest.approx(float(terms.ccc))


class SumOfWorkers(torch.autograd.Function):
    """What a differentiable all-reduce is to one worker: adds the others' sums; n workers send the gradient back."""

    @staticmethod
    def forward(ctx, own, others, num_workers):
        ctx.num_workers = num_workers
        return own + others

    @staticmethod
    def backward(ctx, gradient):
        return ctx.num_workers * gradient, None, None


def test_workers_averaged_gradient_is_that_of_the_whole_batch():
    data = batch(6)
    weight = torch.tensor([0.8, -0.4], requires_grad=True)

    def shard(rows: slice) -> dict[str, Tensor]:
        part = {name: value[rows] for name, value in data.items()}
        part["prediction"] = part["prediction"] * weight[0] + weight[1]
        part["logits"] = part["logits"] * weight[0]
        return part

    whole = evaluate(shard(slice(None)))
    (expected,) = torch.autograd.grad(whole.total, weight)
    shards = [slice(0, 1), slice(1, 4), slice(4, 6)]  # uneven on purpose
    sent: list[Tensor] = []
    for rows in shards:
        evaluate(shard(rows), sum_over_workers=lambda sums: sent.append(sums.detach()) or sums)
    gradients = []
    for worker, rows in enumerate(shards):
        others = sum(sums for k, sums in enumerate(sent) if k != worker)
        terms = evaluate(shard(rows), sum_over_workers=lambda own, o=others: SumOfWorkers.apply(own, o, len(shards)))
        torch.testing.assert_close(terms, whole)
        gradients.append(torch.autograd.grad(terms.total, weight)[0])
    torch.testing.assert_close(torch.stack(gradients).mean(0), expected)


def test_objective_takes_half_precision_output():
    data = batch()
    half = {**data, "prediction": data["prediction"].bfloat16(), "logits": data["logits"].bfloat16()}
    terms = evaluate(half)
    assert terms.total.dtype == torch.float64
    assert float(terms.total) == pytest.approx(float(evaluate(data).total), rel=0.02)
