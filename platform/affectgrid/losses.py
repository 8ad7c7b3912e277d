"""The objective: concordance, squared error and the soft-label cross entropy of the prompt head."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from affectgrid.metrics import NUM_STATS, batch_moments, ccc_from_moments
from affectgrid.model.fusion import FusionOutput

__all__ = [
    "ObjectiveTerms",
    "batch_moments",
    "ccc_from_moments",
    "identity",
    "objective",
    "soft_cross_entropy",
    "soft_divergence",
]


class ObjectiveTerms(NamedTuple):
    """Scalars in float64. `total` is what to minimize; the others are unweighted.

    Args:
        total: ccc_weight * ccc + mse_weight * mse + prompt_weight * prompt, with both axes weighted in ccc and mse.
        ccc: (1 - CCC_valence) + (1 - CCC_arousal), in [0, 4].
        mse: mean squared error over frames and both axes.
        prompt: mean cross entropy of the soft labels, in nats, or divergence where they learn; 0 without a prompt head.
    """

    total: Float[Tensor, ""]
    ccc: Float[Tensor, ""]
    mse: Float[Tensor, ""]
    prompt: Float[Tensor, ""]


def identity(sums: Tensor) -> Tensor:
    """The sum over a single worker."""
    return sums


def soft_cross_entropy(
    logits: Float[Tensor, "*batch region"], soft: Float[Tensor, "*batch region"], mask: Bool[Tensor, "*batch"]
) -> Float[Tensor, ""]:
    """Sum of -sum_k q_k log softmax(logits)_k over the frames where `mask` is true, in nats and float64.

    Its gradient is that of KL(q || softmax), whose entropy term is constant. Values under the mask are never read.
    """
    keep = mask.unsqueeze(-1)
    log_probabilities = torch.log_softmax(torch.where(keep, logits, 0).float(), -1)
    return -(torch.where(keep, soft, 0) * log_probabilities).sum(dtype=torch.float64)


def soft_divergence(
    logits: Float[Tensor, "*batch region"], soft: Float[Tensor, "*batch region"], mask: Bool[Tensor, "*batch"]
) -> Float[Tensor, ""]:
    """Sum of KL(soft || softmax(logits)) over the frames where `mask` is true: cross entropy less the label's entropy.

    For labels that learn. Cross entropy is linear in the label, so its minimum is at a corner, the one-hot of the
    head's own answer: a width trained on it would shrink to its bound whatever the data are. With the entropy
    subtracted, the label is drawn towards the head's distribution instead.
    """
    shares = torch.where(mask.unsqueeze(-1), soft, 0)
    floor = torch.finfo(soft.dtype).tiny  # a share of 0 adds 0, and passes on a gradient of 0
    negative_entropy = (shares * shares.clamp(min=floor).log()).sum(dtype=torch.float64)
    return negative_entropy + soft_cross_entropy(logits, soft, mask)


def objective(
    output: FusionOutput,
    va: Float[Tensor, "batch frame 2"],
    mask: Bool[Tensor, "batch frame"],
    soft: Float[Tensor, "batch frame region"] | None,
    *,
    mse_weight: float,
    prompt_weight: float,
    learned_labels: bool = False,
    ccc_weight: float = 1.0,
    va_weights: tuple[float, float] = (1.0, 1.0),
    sum_over_workers: Callable[[Tensor], Tensor] = identity,
) -> ObjectiveTerms:
    """The loss of the global batch: CCC over all valid frames of all workers, never a mean of per-worker CCCs.

    Every term is a function of sums over frames, so workers exchange one vector of 13 numbers. `mask` marks the frames
    that count (in the window and labelled); values of `va` and `soft` elsewhere are never read. A batch without a valid
    frame costs 0, with no gradient. `va_weights` are those of valence and arousal in the total: they multiply each
    axis's 1 - CCC, whose sum counts, and its squared error, whose mean counts.

    `sum_over_workers` must be a *differentiable* sum whose backward also sums, as
    `torch.distributed.nn.functional.all_reduce` does. Then the factors agree: with n workers and L = f(S),
    S = sum_w S_w, every worker holds the same L, the backward of the sum hands worker w the gradient n f'(S) dS_w, and
    DDP's mean over workers gives sum_w f'(S) dS_w = dL: the gradient of one worker with the whole batch.
    """
    moments = batch_moments(output.va, va, mask)
    prompt_sum = moments.new_zeros(())
    if soft is not None and output.region_logits is not None:
        measure = soft_divergence if learned_labels else soft_cross_entropy
        prompt_sum = measure(output.region_logits, soft, mask)
    sums = sum_over_workers(torch.cat([moments.flatten(), prompt_sum.reshape(1)]))
    moments, prompt_sum = sums[:-1].reshape(NUM_STATS, -1), sums[-1]
    count, _, _, sum_pp, sum_tt, sum_pt = moments.unbind(0)
    n = count.clamp(min=1)
    ccc_losses = torch.where(count > 0, 1 - ccc_from_moments(moments), 0)
    squared_errors = (sum_pp - 2 * sum_pt + sum_tt) / n
    prompt = prompt_sum / n[0]
    weights = moments.new_tensor(va_weights)
    regression = ccc_weight * (weights * ccc_losses).sum() + mse_weight * (weights * squared_errors).mean()
    return ObjectiveTerms(regression + prompt_weight * prompt, ccc_losses.sum(), squared_errors.mean(), prompt)
