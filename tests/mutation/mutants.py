"""Mistakes that the method's tests must notice: each a small change of one place in the package."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One mistake.

    Args:
        name: what it does, as the list prints it.
        file, source: under ``platform/affectgrid``, and text that is there exactly once.
        mistake: what takes its place.
        tests: files under ``tests/unit`` of which one must fail.
    """

    name: str
    file: str
    source: str
    mistake: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "the mask is deleted from the regression loss",
        "losses.py",
        "batch_moments(output.va, va, mask)",
        "batch_moments(output.va, va, torch.ones_like(mask))",
        ("method/test_losses.py",),
    ),
    Mutant(
        "the mask is deleted from the prompt loss",
        "losses.py",
        "-(torch.where(keep, soft, 0) * log_probabilities)",
        "-(soft * log_probabilities)",
        ("method/test_losses.py",),
    ),
    Mutant(
        "CCC without the difference of the means",
        "metrics.py",
        "denominator = mean_squares - 2 * mean_p * mean_t",
        "denominator = mean_squares - mean_p.square() - mean_t.square()",
        ("method/test_metrics.py",),
    ),
    Mutant(
        "CCC with a sample's covariance",
        "metrics.py",
        "covariance = sum_pt / n - mean_p * mean_t",
        "covariance = (sum_pt / n - mean_p * mean_t) * n / (n - 1).clamp(min=1)",
        ("method/test_metrics.py",),
    ),
    Mutant(
        "CCC of the last batch instead of all",
        "metrics.py",
        "self._moments = self._moments.to(moments.device) + moments",
        "self._moments = moments",
        ("method/test_metrics.py",),
    ),
    Mutant(
        "a mean over tracks instead of the pooled CCC",
        "training/inference/predict.py",
        "p=(valence + arousal) / 2,",
        "p=sum(track_p.values()) / len(track_p),",
        ("training/test_inference.py",),
    ),
    Mutant(
        "weights of valence and arousal swapped",
        "losses.py",
        "moments.new_tensor(va_weights)",
        "moments.new_tensor(va_weights[::-1])",
        ("method/test_losses.py",),
    ),
    Mutant(
        "valence and arousal swapped in the scores of an epoch",
        "training/loop.py",
        "valence, arousal = CccAccumulator.from_state(state)",
        "arousal, valence = CccAccumulator.from_state(state)",
        ("training/test_fit_options.py",),
    ),
    Mutant(
        "valence and arousal of the centres swapped",
        "regions.py",
        "valence = va[..., 0, None] - centres[:, 0]",
        "valence = va[..., 1, None] - centres[:, 0]",
        ("method/test_regions.py",),
    ),
    Mutant(
        "soft labels without the 2 in 2 sigma^2",
        "regions.py",
        "/ (2 * unit)",
        "/ unit",
        ("method/test_regions.py",),
    ),
    Mutant(
        "soft labels by distance instead of its square",
        "regions.py",
        "return valence.square() + arousal.square()",
        "return (valence.square() + arousal.square()).sqrt()",
        ("method/test_regions.py",),
    ),
    Mutant(
        "labels joined one frame late",
        "data/splits/resident.py",
        "place = table.frame_index[:here] - 1",
        "place = np.minimum(table.frame_index[:here], len(feature) - 1)",
        ("data/test_resident.py",),
    ),
    Mutant(
        "the presence of the first stream for all in a batch",
        "training/batches/resident.py",
        "present[stored].to(self.device) & mask",
        "next(iter(self.streams.values()))[1][stored].to(self.device) & mask",
        ("training/test_batches.py",),
    ),
    Mutant(
        "audio and visual presence swapped in the model",
        "model/fusion.py",
        "{name: streams[name][1] & frame_mask for name",
        "{name: streams[self.config.fused_order[-1 - self.config.fused_order.index(name)]][1] & frame_mask for name",
        ("model/test_model.py",),
    ),
    Mutant(
        "an absent stream has a share in the softmax gate",
        "model/blocks.py",
        "left_out = ~present & present.any(0)",
        "left_out = ~present & ~present",
        ("model/test_streams.py",),
    ),
    Mutant(
        "imported features joined one frame late",
        "data/imports/files.py",
        "numbers.astype(np.int64) + 1 - wanted.first_frame",
        "numbers.astype(np.int64) + 2 - wanted.first_frame",
        ("data/test_imports.py",),
    ),
    Mutant(
        "the backward GRU reads forwards",
        "model/temporal/recurrent.py",
        "_reverse(states, order.backward)]",
        "_sort(states, order.forward)]",
        ("model/test_model.py",),
    ),
    Mutant(
        "attention looks ahead in a causal model",
        "model/attention.py",
        "allowed &= ahead <= 0",
        "allowed &= ahead <= len(step)",
        ("model/test_model.py",),
    ),
    Mutant(
        "the gate takes the other stream",
        "model/blocks.py",
        "other + gate * (pivot - other)",
        "pivot + gate * (other - pivot)",
        ("model/test_model.py",),
    ),
    Mutant(
        "shuffled prompts may keep their place",
        "model/prompts.py",
        "if not bool((order == identity).any()):",
        "if True:",
        ("model/test_prompts_head.py",),
    ),
    Mutant(
        "texts averaged without normalisation",
        "model/prompts.py",
        "normalize(region.float(), dim=-1).mean(0)",
        "region.float().mean(0)",
        ("model/test_prompts_head.py",),
    ),
    Mutant(
        "overlapping windows merged with flat weights",
        "windows.py",
        "torch.minimum(offset + 1, size - offset)[real].double()",
        "torch.ones_like(torch.minimum(offset + 1, size - offset))[real].double()",
        ("method/test_windows.py",),
    ),
    Mutant(
        "smoothing over masked frames",
        "windows.py",
        "torch.where(valid[:, None], values, 0), valid[:, None]",
        "values, torch.ones_like(valid)[:, None]",
        ("method/test_windows.py",),
    ),
    Mutant(
        "smoothing and label smoothing one frame to the right",
        "windows.py",
        "low = (position - half_width).clamp(min=0)",
        "low = (position - half_width + 1).clamp(min=0)",
        ("method/test_windows.py",),
    ),
    Mutant(
        "labels smoothed across tracks",
        "training/labels.py",
        "itertools.pairwise(offsets.tolist())",
        "[(0, int(offsets[-1]))]",
        ("training/test_targets.py",),
    ),
    Mutant(
        "frequent regions drawn more often",
        "training/labels.py",
        "(support.sum() / support.clamp(min=1)) ** exponent",
        "(support / support.sum()) ** exponent",
        ("training/test_targets.py",),
    ),
    Mutant(
        "predictions not smoothed",
        "training/inference/predict.py",
        "delay(smooth(own, half, causal=causal, kernel=kernel), late)",
        "delay(own, late)",
        ("training/test_inference.py",),
    ),
    Mutant(
        "predictions not clipped",
        "training/inference/predict.py",
        " for track in tracks)]).clamp(-1, 1)",
        " for track in tracks)])",
        ("training/test_ensemble.py",),
    ),
    Mutant(
        "the average is not what is validated",
        "training/loop.py",
        "return self.model if self.average is None else self.average.model",
        "return self.model",
        ("training/test_fit_options.py",),
    ),
    Mutant(
        "the average keeps what it should take",
        "training/optim.py",
        "average.lerp_(weight, 1 - keep)",
        "average.lerp_(weight, keep)",
        ("training/test_schedule.py",),
    ),
    Mutant(
        "the warm-up begins one step late",
        "training/optim.py",
        "return (step + 1) / num_warmup",
        "return step / num_warmup",
        ("training/test_schedule.py",),
    ),
    Mutant(
        "the decay begins one step early",
        "training/optim.py",
        "progress = min(1.0, (step - num_warmup)",
        "progress = min(1.0, (step + 1 - num_warmup)",
        ("training/test_schedule.py",),
    ),
    Mutant(
        "early stopping waits one epoch more",
        "training/loop.py",
        "0 < patience <= waited",
        "0 < patience < waited",
        ("training/test_fit_options.py",),
    ),
    Mutant(
        "the last epoch is kept instead of the best",
        "training/loop.py",
        'if metrics["val/p"] > best:',
        "if True:",
        ("training/test_fit_options.py", "training/test_fit.py"),
    ),
    Mutant(
        "a resumed run forgets the optimizer",
        "training/loop.py",
        "self.optimizer.load_state_dict(state.optimizer)",
        "pass",
        ("training/test_fit_options.py",),
    ),
    Mutant(
        "a resumed run forgets the average",
        "training/loop.py",
        "self.average.model.load_state_dict(state.average)",
        "pass",
        ("training/test_fit_options.py",),
    ),
    Mutant(
        "an epoch resumed in its middle draws other random numbers",
        "training/loop.py",
        "self.random = state.random",
        "self.random = None",
        ("training/test_fit_options.py",),
    ),
    Mutant(
        "each worker's own CCC instead of the whole batch's",
        "losses.py",
        "sums = sum_over_workers(torch.cat(",
        "sums = identity(torch.cat(",
        ("method/test_losses.py",),
    ),
    Mutant(
        "workers' sums carry no gradient",
        "losses.py",
        "reshape(1)]))",
        "reshape(1)]).detach()).requires_grad_()",
        ("method/test_losses.py",),
    ),
)
