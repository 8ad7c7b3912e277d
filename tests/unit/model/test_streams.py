"""Three and more streams: who attends to whom, what a gate may take, and what is dropped."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from affectgrid.losses import objective
from affectgrid.model.blocks import GatedFusion, SoftmaxFusion
from affectgrid.model.config import FusionConfig
from affectgrid.model.fusion import FusionModel
from affectgrid.model.streams import drop_stream

DIMS = {"audio": 4, "visual": 6, "landmarks": 3, "text": 5}
STREAMS = ("audio", "visual", "landmarks", "text")
TEMPORAL = ("bigru", "gru", "tcn", "transformer", "none")
Batch = dict[str, tuple[Tensor, Tensor]]


def make_model(**fields) -> FusionModel:
    torch.manual_seed(0)
    sizes = {"hidden_dim": 8, "num_heads": 2, "dropout": 0.0, "modality_dropout": 0.0, "streams": STREAMS}
    model = FusionModel(FusionConfig(**{**sizes, **fields}), feature_dims=DIMS)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def make_batch(num_windows: int = 3, num_frames: int = 7) -> tuple[Batch, Tensor]:
    draw = torch.Generator().manual_seed(0)
    shape = (num_windows, num_frames)
    streams = {
        name: (torch.randn(*shape, dim, generator=draw), torch.rand(*shape, generator=draw) < 0.7)
        for name, dim in DIMS.items()
    }
    return streams, torch.arange(num_frames) < num_frames - torch.arange(num_windows)[:, None]


@pytest.mark.parametrize("temporal", TEMPORAL)
@pytest.mark.parametrize("fusion", ["both", "attention", "gate", "concat"])
def test_every_stream_counts_and_what_is_masked_does_not(temporal: str, fusion: str) -> None:
    model, (streams, mask) = make_model(temporal=temporal, fusion=fusion, fusion_depth=2), make_batch()
    before = model(streams, mask).va
    for name, (features, present) in streams.items():
        spoilt = torch.where((present & mask)[..., None], features, torch.nan)
        torch.testing.assert_close(model({**streams, name: (spoilt, present | ~mask)}, mask).va[mask], before[mask])
        moved = model({**streams, name: (features + 1, present)}, mask).va
        assert float((moved - before)[mask].detach().abs().max()) > 1e-4, name
    model.train()(streams, mask).va[mask].sum().backward()
    silent = [name for name, own in model.named_parameters() if own.grad is None or not bool((own.grad != 0).any())]
    assert silent == []


def test_the_pivot_asks_all_and_is_asked_by_all_in_its_state_from_before_the_block() -> None:
    model, (streams, mask) = make_model(fusion="attention", fusion_depth=1, temporal="none"), make_batch()
    (maps,) = model(streams, mask, return_attention=True).attention
    others = ("audio", "landmarks", "text")
    assert list(maps) == [("visual", name) for name in others] + [(name, "visual") for name in others]
    for (_, asked), weights in maps.items():
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 7))
        seen = (streams[asked][1] & mask)[:, None, None, :] | torch.eye(7, dtype=torch.bool)
        assert float(weights.detach().masked_select(~seen).abs().max()) == 0
    # what the pivot takes of one stream reaches no other: they ask it as it was
    features, present = streams["landmarks"]
    moved = model({**streams, "landmarks": (features + 1, present)}, mask, return_attention=True).attention[0]
    assert torch.equal(moved["text", "visual"], maps["text", "visual"])
    assert not torch.equal(moved["visual", "landmarks"], maps["visual", "landmarks"])


def test_the_first_stream_is_the_pivot_where_there_is_no_picture() -> None:
    assert FusionConfig(streams=("text", "audio")).fused_order == ("text", "audio")
    assert FusionConfig(streams=("text", "visual")).fused_order == ("visual", "text")


def test_shares_are_those_of_the_streams_that_a_frame_has() -> None:
    model, (streams, mask) = make_model(fusion="gate", fusion_depth=2), make_batch()
    for shares in model(streams, mask, return_gates=True).gates:
        assert shares.shape == (3, 4, 7, 8)
        torch.testing.assert_close(shares.sum(1), torch.ones(3, 7, 8))
        for number, name in enumerate(model.config.fused_order):
            present = streams[name][1] & mask
            some = torch.stack([streams[other][1] & mask for other in STREAMS]).any(0)
            assert float(shares[:, number][~present & some].detach().abs().max()) == 0
            assert float(shares[:, number][present].detach().min()) > 0


def test_softmax_gate_by_hand() -> None:
    gate = SoftmaxFusion(1, (1.0, 2.0, 1.0))
    nn.init.zeros_(gate.gate.weight)
    nn.init.zeros_(gate.gate.bias)
    states = torch.tensor([4.0, 8.0, 100.0]).view(3, 1, 1, 1)
    fused, shares = gate(states, torch.tensor([True, True, False]).view(3, 1, 1))
    torch.testing.assert_close(shares.flatten(), torch.tensor([1 / 3, 2 / 3, 0.0]))
    assert float(fused.detach()) == pytest.approx((4 + 2 * 8) / 3)
    _, shares = gate(states, torch.zeros(3, 1, 1, dtype=torch.bool))  # none is there: by the priors
    torch.testing.assert_close(shares.flatten(), torch.tensor([0.25, 0.5, 0.25]))


def test_priors_belong_to_the_streams_as_they_are_named() -> None:
    assert FusionConfig(streams=("audio", "visual"), stream_priors=(1.0, 3.0)).priors_in_order == (3.0, 1.0)
    model = make_model(streams=("audio", "visual"), stream_priors=(1.0, 3.0), fusion="gate", fusion_depth=1)
    gated = model.blocks[0].gated
    assert isinstance(gated, GatedFusion)
    nn.init.zeros_(gated.gate.weight)
    nn.init.zeros_(gated.gate.bias)
    (shares,) = model(*make_batch(), return_gates=True).gates
    assert shares[0, :, 0, 0].tolist() == pytest.approx([0.75, 0.25])


def test_a_window_loses_one_of_the_streams_that_it_has_each_as_often() -> None:
    torch.manual_seed(0)
    names = ("a", "b", "c")
    present = {name: torch.ones(30_000, 2, dtype=torch.bool) for name in names}
    present["b"][:10_000] = False
    present["c"][:5_000] = False  # the first have one stream, the next two, the others three
    after = drop_stream(present, 0.3)
    lost = torch.stack([(present[name] & ~after[name]).any(1) for name in names])
    assert int(lost.sum(0).max()) == 1
    rates = [
        lost[:, part].float().mean(1).tolist() for part in (slice(5_000), slice(5_000, 10_000), slice(10_000, None))
    ]
    assert rates[0] == [0, 0, 0]
    assert rates[1] == pytest.approx([0.15, 0, 0.15], abs=0.02)
    assert rates[2] == pytest.approx([0.1, 0.1, 0.1], abs=0.01)


def test_a_stream_that_alone_tells_is_found_among_four() -> None:
    model, (streams, mask) = make_model(hidden_dim=16).train(), make_batch(4, 20)
    va = torch.tanh(streams["landmarks"][0][..., :2])
    streams["landmarks"] = (streams["landmarks"][0], torch.ones(4, 20, dtype=torch.bool))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(100):
        terms = objective(model(streams, mask), va, mask, None, mse_weight=0.0, prompt_weight=0.0)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
    assert float(terms.ccc.detach()) < 0.1
    (shares,) = model.eval()(streams, mask, return_gates=True).gates
    number = model.config.fused_order.index("landmarks")
    assert float(shares.detach()[:, number].mean()) > 0.25
