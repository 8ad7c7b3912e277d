"""Where a training step spends its time, beside the bare matrix products that it cannot do without."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from affectgrid.losses import objective
from affectgrid.model.attention import Sight
from affectgrid.model.fusion import FusionOutput
from affectgrid.model.temporal.gru import run_grus
from affectgrid.model.temporal.recurrent import FrameOrder
from affectgrid.regions import RegionGrid, soft_labels
from affectgrid.training.build import build_model
from affectgrid.training.config import TrainConfig
from affectgrid.training.data import EncodedPrompts
from benchmarks.products import of_step
from benchmarks.timing import alternate, seconds

WINDOWS, FRAMES, DIMS, TEXT = 16, 300, (512, 768), 512


def both_ways(work: Callable[[], Tensor | tuple[Tensor, ...]], parameters: list[nn.Parameter]) -> float:
    """Seconds of a forward and a backward pass."""
    made = work()
    grads = [torch.randn_like(tensor) for tensor in (made if isinstance(made, tuple) else (made,))]

    def run() -> None:
        out = work()
        torch.autograd.backward(out if isinstance(out, tuple) else (out,), grads)
        for parameter in parameters:
            parameter.grad = None

    return seconds(run, least_s=1.0)


@pytest.mark.parametrize("hidden", [64, 256])
def test_train_step(say, hidden: int) -> None:
    """Time of each part of a step, forwards and backwards, over its matrix products alone; float32, one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = TrainConfig.model_validate({"model": {"hidden_dim": hidden}})
    prompts = drawn_prompts()
    model = build_model(config, dims=dict(zip(config.model.streams, DIMS, strict=True)), prompts=prompts).train()
    mask = torch.ones(WINDOWS, FRAMES, dtype=torch.bool)
    features = [torch.randn(WINDOWS, FRAMES, dim).half() for dim in DIMS]
    streams = [torch.randn(WINDOWS, FRAMES, hidden, requires_grad=True) for _ in DIMS]
    present = dict.fromkeys(config.model.streams, mask)
    sights = {name: Sight.over(mask, span=0, causal=False) for name in present}
    va = torch.rand(WINDOWS, FRAMES, 2) * 2 - 1
    centres = prompts.grid.centres_tensor()

    def loss_of(output: FusionOutput) -> Tensor:
        soft = soft_labels(va, centres, sigma=0.33)
        return objective(output, va, mask, soft, mse_weight=0.0, prompt_weight=0.5).total

    def inputs() -> tuple[Tensor, ...]:
        return tuple(model.inputs[s](f, mask) for s, f in zip(config.model.streams, features, strict=True))

    def attention() -> Tensor:
        states = dict(zip(config.model.streams, streams, strict=True))
        for block in model.blocks:
            states, fused, _ = block(states, sights, present)
        return fused

    def heads() -> tuple[Tensor, ...]:
        fused = model.dropout(model.norm(streams[0]))
        return torch.tanh(model.va_head(fused)), model.prompt_head(fused)

    def loss() -> Tensor:
        return loss_of(FusionOutput(guess, logits, None))

    guess, logits = (torch.rand(WINDOWS, FRAMES, n, requires_grad=True) for n in (2, prompts.grid.num_regions))
    learnt = list(model.parameters())
    works = {
        "inputs": inputs,
        "gru": lambda: model.temporal(torch.stack(streams), FrameOrder.of(mask)),
        "attention": attention,
        "heads": heads,
        "loss": loss,
    }
    took = {name: both_ways(work, learnt) for name, work in works.items()}
    optimizer = torch.optim.AdamW(learnt, fused=True)
    for parameter in learnt:
        parameter.grad = torch.randn_like(parameter)
    took["optimizer"] = seconds(lambda: (nn.utils.clip_grad_norm_(learnt, 1.0), optimizer.step()))
    given = {name: (own, mask) for name, own in zip(config.model.streams, features, strict=True)}
    whole = both_ways(lambda: loss_of(model(given, mask)), learnt) + took["optimizer"]
    bare = of_step(
        num_windows=WINDOWS, num_frames=FRAMES, dims=DIMS, hidden=hidden, heads=config.model.num_heads,
        depth=config.model.fusion_depth, regions=prompts.grid.num_regions,
    )  # fmt: skip
    parts = [
        f"{name} {took[name] * 1e3:.1f}" + (f" over {bare[name] * 1e3:.1f}" if name in bare else "") for name in took
    ]
    figures = f"width {hidden}, {whole * 1e3:.0f} over {sum(bare.values()) * 1e3:.0f} ms; {', '.join(parts)}"
    say("train_step", whole / sum(bare.values()), figures, "told, not set")


@pytest.mark.parametrize("hidden", [64, 256])
def test_train_gru(say, hidden: int) -> None:
    """The GRUs of both streams and directions in one loop, forwards and backwards, over torch's own one by one."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    grus = [nn.GRU(hidden, hidden // 2, batch_first=True) for _ in range(2 * len(DIMS))]
    states = torch.randn(len(grus), WINDOWS, FRAMES, hidden, requires_grad=True)

    def own() -> Tensor:
        return run_grus(grus, states)

    def torchs() -> Tensor:
        return torch.stack([gru(state)[0] for gru, state in zip(grus, states, strict=True)])

    torch.testing.assert_close(own(), torchs(), atol=1e-5, rtol=1e-5)
    learnt = [parameter for gru in grus for parameter in gru.parameters()]
    ours_s, torchs_s = alternate([lambda: both_ways(own, learnt), lambda: both_ways(torchs, learnt)], 3)
    figures = f"width {hidden}, {torchs_s * 1e3:.0f} over {ours_s * 1e3:.0f} ms"
    say("train_gru", torchs_s / ours_s, figures, "> 1")


def drawn_prompts() -> EncodedPrompts:
    """Nine regions with drawn text features."""
    return EncodedPrompts("3x3-plain", RegionGrid.square(3), tuple(torch.randn(1, TEXT) for _ in range(9)))
