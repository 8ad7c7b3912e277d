"""The fusion model: masks, causality, missing streams, gradients and configuration.

Longer than 300 lines: every part is checked on the one small model that this file builds.
"""

import itertools

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from affectgrid.losses import objective
from affectgrid.model import attention as attention_module
from affectgrid.model.attention import CrossAttention, CrossModalLayer, Sight
from affectgrid.model.blocks import GatedFusion
from affectgrid.model.config import FusionConfig
from affectgrid.model.dropout import LockedDropout
from affectgrid.model.fusion import FusionModel, FusionOutput
from affectgrid.model.prompts import PromptBank
from affectgrid.model.streams import MAX_DEVIATIONS, StreamInput, drop_stream
from affectgrid.model.temporal.gru import run_grus
from affectgrid.model.temporal.recurrent import FrameOrder, TemporalEncoder
from affectgrid.regions import RegionGrid, soft_labels

VISUAL_DIM, AUDIO_DIM, TEXT_DIM, NUM_FRAMES = 10, 7, 12, 9
TEMPORAL = ("bigru", "gru", "tcn", "causal-tcn", "transformer", "causal-transformer", "ssm", "causal-ssm", "none")
CAUSAL = ("gru", "causal-tcn", "causal-transformer", "causal-ssm")
FUSION = ("both", "attention", "gate", "concat")
DIMS = {"visual": VISUAL_DIM, "audio": AUDIO_DIM}
Batch = dict[str, Tensor]


class Model(FusionModel):
    """Takes the flat batches of this file."""

    def forward(self, frame_mask: Tensor, *, return_gates=False, return_attention=False, **batch) -> FusionOutput:
        streams = {name: (batch[name], batch[f"{name}_present"]) for name in DIMS}
        return super().forward(streams, frame_mask, return_gates=return_gates, return_attention=return_attention)


def make_model(*, learnable: bool = False, seed: int = 0, **fields) -> FusionModel:
    torch.manual_seed(seed)
    config = FusionConfig(**{"hidden_dim": 8, "num_heads": 2, "dropout": 0.0, "modality_dropout": 0.0, **fields})
    texts = [torch.randn(2, TEXT_DIM) for _ in range(4)]
    prompts = PromptBank.build(texts, "learned" if learnable else "ensemble", seed=1)
    model = Model(config, feature_dims=DIMS, prompts=prompts)
    for parameter in model.parameters():  # a fresh model's biases are 0, and 0 hides faults
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def make_batch(num_windows: int = 3, num_frames: int = NUM_FRAMES, *, full: bool = False, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    shape = (num_windows, num_frames)

    def mask(share: float) -> Tensor:
        return torch.rand(*shape, generator=generator) < share

    lengths = torch.full((num_windows, 1), num_frames) - (0 if full else torch.arange(num_windows)[:, None] * 2)
    return {
        "visual": 30 * torch.randn(*shape, VISUAL_DIM, generator=generator),
        "visual_present": mask(0.8),
        "audio": 0.1 * torch.randn(*shape, AUDIO_DIM, generator=generator),
        "audio_present": mask(0.8),
        "frame_mask": torch.arange(num_frames) < lengths,
    }


def select(batch: Batch, index) -> Batch:
    return {name: value[index] for name, value in batch.items()}


def frames(output: FusionOutput) -> Tensor:
    """Everything that the model says of a frame, side by side."""
    return torch.cat([output.va, output.region_logits], -1).detach()


def only_mask(seen: Tensor, *, span: int, causal: bool) -> Tensor | None:
    ((_, _, mask),) = Sight.over(seen, span=span, causal=causal).blocks
    return mask


def same(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def every_arm() -> list[dict[str, object]]:
    arms = [{"temporal": t, "fusion": f, "fusion_depth": 2} for t, f in itertools.product(TEMPORAL, FUSION)]
    arms += [{"streams": (s,), "temporal": t} for s, t in itertools.product(("visual", "audio"), TEMPORAL)]
    arms += [{"temporal": "gru", "gru_layers": 2}, {"temporal": "tcn", "tcn_layers": 1, "tcn_kernel": 5}]
    return [*arms, {"fusion_depth": 0}, {"fusion_depth": 6}, {"gru_layers": 3}, {"attention_span": 2}]


arms = pytest.mark.parametrize("fields", every_arm(), ids=lambda f: "-".join(str(v) for v in f.values()))


@arms
def test_output_has_its_shape_and_range(fields):
    output = make_model(**fields)(**make_batch())
    assert output.va.shape == (3, NUM_FRAMES, 2)
    assert float(output.va.detach().abs().max()) < 1
    assert output.region_logits.shape == (3, NUM_FRAMES, 4)
    assert output.gates is None
    assert bool(torch.isfinite(frames(output)).all())


@arms
def test_values_under_a_mask_never_matter(fields):
    model, clean = make_model(**fields), make_batch()
    spoilt = dict(clean)
    for stream in ("visual", "audio"):
        seen = clean[f"{stream}_present"] & clean["frame_mask"]
        spoilt[stream] = torch.where(seen[..., None], clean[stream], torch.nan)
        spoilt[f"{stream}_present"] = clean[f"{stream}_present"] | ~clean["frame_mask"]  # a claim that must not count
    real = clean["frame_mask"]
    same(frames(model(**spoilt))[real], frames(model(**clean))[real])
    model.train()  # the same holds for gradients
    model(**spoilt).va[real].sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


@arms
def test_padding_changes_nothing(fields):
    model, batch = make_model(**fields), make_batch()
    together = frames(model(**batch))
    for window in range(3):
        length = int(batch["frame_mask"][window].sum())
        alone = {name: value[window : window + 1, :length] for name, value in batch.items()}
        same(together[window, :length], frames(model(**alone))[0])


@pytest.mark.parametrize("temporal", TEMPORAL)
@pytest.mark.parametrize("fusion", FUSION)
def test_frames_masked_anywhere_are_stepped_over(temporal, fusion):
    """Without positions: with them attention knows that time went by."""
    fields = {"temporal": temporal, "fusion": fusion, "gru_layers": 2, "positions": "none"}
    model, batch = make_model(**fields), make_batch(1, full=True)
    batch["frame_mask"][0, [0, 3, 4]] = False
    kept = batch["frame_mask"][0]
    alone = {name: value[:, kept] for name, value in batch.items()}
    same(frames(model(**batch))[:, kept], frames(model(**alone)))


@arms
def test_the_order_of_a_batch_changes_nothing(fields):
    model, batch = make_model(**fields), make_batch(4, full=True)
    order = torch.tensor([2, 0, 3, 1])
    same(frames(model(**select(batch, order))), frames(model(**batch))[order])


@pytest.mark.parametrize("temporal", CAUSAL)
@pytest.mark.parametrize("fusion", FUSION)
@pytest.mark.parametrize("full", [True, False])
def test_a_causal_model_does_not_look_ahead(temporal, fusion, full):
    model = make_model(temporal=temporal, fusion=fusion, fusion_depth=2, gru_layers=2)
    past, other = make_batch(full=full), make_batch(full=full, seed=1)
    now = 4
    changed = {name: torch.cat([past[name][:, : now + 1], other[name][:, now + 1 :]], 1) for name in past}
    before, after = frames(model(**past)), frames(model(**changed))
    same(after[:, : now + 1], before[:, : now + 1])
    assert not torch.allclose(after[0, now + 1 :], before[0, now + 1 :])


@pytest.mark.parametrize("temporal", ["bigru", "tcn"])
def test_a_bidirectional_model_does_look_ahead(temporal):
    model, batch = make_model(temporal=temporal), make_batch(full=True)
    before = frames(model(**batch))
    batch["visual"][:, -1] += 1 + torch.arange(VISUAL_DIM)
    batch["visual_present"][:, -1] = True
    assert not torch.allclose(frames(model(**batch))[:, 0], before[:, 0])


def test_attention_span_is_as_far_as_a_frame_sees():
    model = make_model(temporal="none", fusion="attention", attention_span=2)
    batch = make_batch(1, full=True)
    batch["audio_present"][:] = True
    before = frames(model(**batch))
    batch["audio"][:, 0] += torch.arange(AUDIO_DIM)
    moved = (frames(model(**batch)) - before).abs().amax(-1)[0] > 1e-7
    assert moved.tolist() == [True, True, True, *[False] * (NUM_FRAMES - 3)]


@pytest.mark.parametrize("streams", [("visual",), ("audio",)])
def test_one_stream_does_not_read_the_other(streams):
    model, batch = make_model(streams=streams), make_batch()
    other = "audio" if streams == ("visual",) else "visual"
    before = frames(model(**batch))
    batch[other] = torch.full_like(batch[other], torch.nan)
    batch[f"{other}_present"] = ~batch[f"{other}_present"]
    assert torch.equal(frames(model(**batch)), before)
    assert len(model.blocks) == 0
    assert model.join is None
    assert not [name for name, _ in model.named_parameters() if other in name]


def test_depth_zero_is_concatenation():
    batch, concat, flat = make_batch(), make_model(fusion="concat", fusion_depth=4), make_model(fusion_depth=0)
    flat.load_state_dict(concat.state_dict())
    assert torch.equal(frames(flat(**batch)), frames(concat(**batch)))


@pytest.mark.parametrize("stream", ["visual", "audio"])
def test_an_absent_frame_uses_the_learned_token(stream):
    model, batch = make_model(), make_batch()
    absent = model.inputs[stream].absent
    before = frames(model(**batch))
    with torch.no_grad():
        absent.add_(1 + torch.arange(8.0))
    assert not torch.allclose(frames(model(**batch)), before)
    batch[f"{stream}_present"][:] = True
    before = frames(model(**batch))[batch["frame_mask"]]
    with torch.no_grad():
        absent.sub_(5)
    assert torch.equal(frames(model(**batch))[batch["frame_mask"]], before)


def test_a_window_with_no_stream_and_one_with_no_frame_stay_finite():
    model, batch = make_model(), make_batch()
    batch["visual_present"][0] = batch["audio_present"][0] = False
    batch["frame_mask"][1] = False
    output = model(**batch)
    assert bool(torch.isfinite(frames(output)).all())
    output.va.sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


@arms
@pytest.mark.parametrize("learnable", [False, True])
def test_gradients_reach_everything_that_learns_and_nothing_frozen(fields, learnable):
    model, batch = make_model(learnable=learnable, **fields).train(), make_batch()
    grid = RegionGrid.square(2)
    va = torch.rand(3, NUM_FRAMES, 2, generator=torch.Generator().manual_seed(5)) * 2 - 1
    soft = soft_labels(va, grid, sigma=0.5)
    frozen = model.prompt_head.text_features.detach().clone()
    terms = objective(model(**batch), va, batch["frame_mask"], soft, mse_weight=0.1, prompt_weight=1.0)
    terms.total.backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert silent == []
    torch.optim.AdamW(model.parameters(), lr=0.1).step()
    assert torch.equal(model.prompt_head.text_features, frozen) is not learnable
    assert ("prompt_head.text_features" in dict(model.named_parameters())) is learnable


def test_gates_are_returned_when_asked_for():
    batch = make_batch()
    gates = make_model(fusion_depth=3)(**batch, return_gates=True).gates
    assert [gate.shape for gate in gates] == [(3, 2, NUM_FRAMES, 8)] * 3
    assert all(torch.allclose(gate.sum(1), torch.ones(())) for gate in gates)
    assert all(float(gate.detach().min()) > 0 and float(gate.detach().max()) < 1 for gate in gates)
    assert make_model(fusion="attention")(**batch, return_gates=True).gates == []
    assert make_model(streams=("audio",))(**batch, return_gates=True).gates == []


@pytest.mark.parametrize(("full", "fields"), [(True, {}), (False, {"attention_span": 2}), (False, {"temporal": "gru"})])
def test_attention_is_returned_when_asked_for_and_changes_nothing(full, fields):
    model, batch = make_model(fusion_depth=2, **fields), make_batch(full=full)
    assert model(**batch).attention is None
    output = model(**batch, return_attention=True)
    assert torch.equal(frames(output), frames(model(**batch)))  # the fused kernel still makes the output
    assert [[weights.shape for weights in maps.values()] for maps in output.attention] == [[(3, 2, 9, 9)] * 2] * 2
    shape = {"span": model.config.attention_span, "causal": model.config.causal}
    allowed = [only_mask(batch[f"{stream}_present"] & batch["frame_mask"], **shape) for stream in ("audio", "visual")]
    pairs = [("visual", "audio"), ("audio", "visual")]
    for maps, (pair, seen) in itertools.product(output.attention, zip(pairs, allowed, strict=True)):
        torch.testing.assert_close(maps[pair].sum(-1), torch.ones(3, 2, 9))
        assert seen is not None
        assert float(maps[pair].detach().masked_select(~seen).abs().max()) == 0
    assert make_model(fusion="gate")(**batch, return_attention=True).attention == []
    assert make_model(streams=("audio",))(**batch, return_attention=True).attention == []


@pytest.mark.parametrize("masked", [True, False])
def test_attention_weights_make_what_the_fused_kernel_makes(masked):
    torch.manual_seed(0)
    attention, queries, keys = CrossAttention(8, 2, rotary=True), torch.randn(3, 5, 8), torch.randn(3, 5, 8)
    seen = torch.arange(5) < torch.tensor([[5], [3], [2]]) if masked else torch.ones(3, 5, dtype=torch.bool)
    sight = Sight.over(seen, span=0, causal=masked)
    weights = attention.weights(queries, keys, sight)
    value = attention._heads(attention.key_value(keys).chunk(2, -1)[1])
    by_hand = attention.out((weights @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(by_hand, attention(queries, keys, sight))


def test_the_two_directions_of_attention_are_told_apart():
    """With one frame of sound that differs, the picture's attention moves, and the sound's own query moves with it."""
    model, batch = make_model(temporal="none"), make_batch(1, full=True)
    batch["audio_present"][:] = batch["visual_present"][:] = True
    (before,) = model(**batch, return_attention=True).attention
    batch["audio"][:, 2] += torch.arange(AUDIO_DIM)
    (after,) = model(**batch, return_attention=True).attention
    moved = [(before[pair] - after[pair]).abs().amax((0, 1)).detach() > 1e-7 for pair in before]
    assert bool(moved[0].all())  # every picture frame sees the key that has changed, and weighs all anew
    assert moved[1].any(1).tolist() == [False, False, True, *[False] * 6]  # of the sound only that frame asks otherwise


def test_half_precision_features_are_read_as_stored():
    model, batch = make_model(), make_batch()
    half = {**batch, "visual": batch["visual"].half(), "audio": batch["audio"].half()}
    widened = {**half, "visual": half["visual"].float(), "audio": half["audio"].float()}
    assert torch.equal(frames(model(**half)), frames(model(**widened)))


def test_a_saved_model_brings_its_prompts_along():
    model, batch = make_model(), make_batch()
    blank = PromptBank.blank(4, TEXT_DIM)
    copy = Model(model.config, feature_dims=DIMS, prompts=blank).eval()
    copy.load_state_dict(model.state_dict())
    assert torch.equal(frames(copy(**batch)), frames(model(**batch)))


def test_a_model_without_prompts_has_no_logits():
    config = FusionConfig(hidden_dim=8, num_heads=2)
    assert Model(config, feature_dims=DIMS)(**make_batch()).region_logits is None


def test_modality_dropout_acts_in_training_only():
    model, batch = make_model(modality_dropout=0.9), make_batch(full=True)
    assert torch.equal(frames(model(**batch)), frames(model(**batch)))
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(frames(model(**batch)), frames(model(**batch)))


def test_modality_dropout_takes_one_whole_stream_at_its_rate():
    torch.manual_seed(0)
    visual, audio = torch.ones(20_000, 2, dtype=torch.bool), torch.ones(20_000, 2, dtype=torch.bool)
    audio[:5000] = False  # these have one stream, and keep it
    new_visual, new_audio = drop_stream({"visual": visual, "audio": audio}, 0.3).values()
    assert bool(new_visual[:5000].all())
    lost_visual, lost_audio = ~new_visual[5000:].any(1), ~new_audio[5000:].any(1)
    assert float(lost_visual.float().mean()) == pytest.approx(0.15, abs=0.01)
    assert float(lost_audio.float().mean()) == pytest.approx(0.15, abs=0.01)
    assert not bool((lost_visual & lost_audio).any())
    assert torch.equal(new_visual[:, 0], new_visual[:, 1])


def test_the_model_overfits_a_small_batch():
    """A wrong mask, a detached branch or a dead head cannot reach this."""
    model, batch = make_model(hidden_dim=32, num_heads=4).train(), make_batch(4, 20)
    va = torch.rand(4, 20, 2, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):
        terms = objective(model(**batch), va, batch["frame_mask"], None, mse_weight=0.0, prompt_weight=0.0)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
    assert float(terms.ccc.detach()) < 0.1  # P > .95


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"hidden_dim": 10, "num_heads": 4}, "hidden_dim 10 is not divisible by num_heads 4"),
        ({"hidden_dim": 9, "num_heads": 3}, "hidden_dim 9 is odd"),
        ({"streams": ("audio", "audio")}, "streams names one twice"),
        ({"streams": ()}, "at least 1 item"),
        ({"streams": ("Text!",)}, "should match pattern"),
        ({"stream_priors": (1.0, 2.0, 3.0)}, "stream_priors has 3 numbers for 2 streams"),
        ({"stream_priors": (1.0, 0.0)}, "greater than 0"),
        ({"hiden_dim": 8}, "Extra inputs"),
        ({"temporal": "tcn", "tcn_kernel": 4}, "tcn_kernel 4 is even"),
    ],
)
def test_a_shape_that_cannot_be_built_is_refused(fields, said):
    with pytest.raises(ValidationError, match=said):
        FusionConfig(**fields)


def test_attention_mask_by_hand():
    mask = torch.tensor([[True, True, False]])
    assert only_mask(mask, span=0, causal=False)[0, 0].int().tolist() == [[1, 1, 0], [1, 1, 0], [1, 1, 1]]
    assert only_mask(mask, span=0, causal=True)[0, 0].int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert only_mask(mask, span=1, causal=False)[0, 0].int().tolist() == [[1, 1, 0], [1, 1, 0], [0, 1, 1]]
    assert only_mask(mask[:, :2], span=0, causal=False) is None
    assert only_mask(mask[:, :2], span=2, causal=False) is None


@pytest.mark.parametrize("causal", [True, False])
def test_a_long_track_in_blocks_is_one_in_a_piece(causal, monkeypatch):
    torch.manual_seed(0)
    seen = torch.rand(2, 70) < 0.7
    attention, queries, keys = CrossAttention(8, 2, rotary=True), torch.randn(2, 70, 8), torch.randn(2, 70, 8)
    whole = Sight.over(seen, span=9, causal=causal)
    monkeypatch.setattr(attention_module, "_BLOCK", 16)
    blocks = Sight.over(seen, span=9, causal=causal)
    assert (len(whole.blocks), len(blocks.blocks)) == (1, 5)
    assert max(mask.shape[-1] for _, _, mask in blocks.blocks) <= 16 + 2 * 9
    same(attention(queries, keys, blocks), attention(queries, keys, whole))


def test_attention_knows_the_order_of_the_frames():
    batch = make_batch(1, full=True)
    batch["audio_present"][:] = True
    order = torch.randperm(NUM_FRAMES, generator=torch.Generator().manual_seed(0))
    for positions, told in (("rotary", True), ("none", False)):
        model = make_model(temporal="none", fusion="attention", positions=positions)
        streams = [states[:, None] for states in torch.randn(2, NUM_FRAMES, 8)]
        visual, audio = (states.transpose(0, 1) for states in streams)
        layer, sight = model.blocks[0].visual_asks, Sight.over(batch["audio_present"], span=0, causal=False)
        moved = float((layer(visual, audio[:, order], sight) - layer(visual, audio, sight)).detach().abs().max())
        assert (moved > 1e-3) is told


def test_attention_depends_on_how_far_apart_frames_are_and_not_on_when():
    torch.manual_seed(0)
    attention, queries, keys = CrossAttention(6, 2, rotary=True), torch.randn(1, 9, 6), torch.randn(1, 9, 6)
    later = [torch.cat([torch.randn(1, 4, 6), part], 1) for part in (queries, keys)]
    seen = torch.ones(1, 13, dtype=torch.bool)
    seen[:, :4] = False
    expected = attention(queries, keys, Sight.over(seen[:, 4:], span=0, causal=False))
    same(attention(*later, Sight.over(seen, span=0, causal=False))[:, 4:], expected)


def test_frames_without_a_stream_are_not_looked_at():
    model, batch = make_model(temporal="none", fusion="attention"), make_batch(1, full=True)
    batch["audio_present"] = torch.tensor([[True] * 5 + [False] * 4])
    before = frames(model(**batch))
    with torch.no_grad():
        model.inputs["audio"].absent.add_(1 + torch.arange(8.0))
    moved = (frames(model(**batch)) - before).abs().amax(-1)[0] > 1e-7
    assert moved.tolist() == [False] * 5 + [True] * 4  # those that lack it still have the token for their own


def test_cross_attention_equals_a_loop_over_heads_and_frames():
    torch.manual_seed(0)
    attention = CrossAttention(8, 2, rotary=True).double()
    queries, keys = torch.randn(5, 8).double(), torch.randn(5, 8).double()
    key, value = attention.key_value(keys).chunk(2, -1)
    query, expected = attention.query(queries), torch.zeros(5, 8).double()

    def turned(states: Tensor, frame: int) -> Tensor:
        """A head's four channels as two complex ones, turned by 1 and by 1 / 100 of the frame's number."""
        angle = frame * torch.tensor([1, 0.01], dtype=torch.float64)
        plane = torch.complex(states[:2], states[2:]) * torch.polar(torch.ones(2, dtype=torch.float64), angle)
        return torch.cat([plane.real, plane.imag])

    for head, frame in itertools.product((slice(0, 4), slice(4, 8)), range(5)):
        scores = torch.stack(
            [turned(query[frame, head], frame) @ turned(key[k, head], k) / 2 for k in range(frame + 1)]
        )  # sqrt(4) = 2
        expected[frame, head] = scores.softmax(0) @ value[: frame + 1, head]
    got = attention(queries[None], keys[None], Sight.over(torch.ones(1, 5).bool(), span=0, causal=True))[0]
    torch.testing.assert_close(got, attention.out(expected), rtol=1e-5, atol=1e-6)  # angles are in single precision


def test_a_cross_modal_layer_adds_to_what_asks():
    torch.manual_seed(0)
    layer, asking, asked = CrossModalLayer(8, 2, 0.0, rotary=True), torch.randn(1, 5, 8), torch.randn(1, 5, 8)
    sight = Sight.over(torch.ones(1, 5).bool(), span=0, causal=False)
    attended = asking + layer.attention(layer.query_norm(asking), layer.key_norm(asked), sight)
    torch.testing.assert_close(layer(asking, asked, sight), attended + layer.feed_forward(attended))
    for last in (layer.attention.out, layer.feed_forward[4]):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    assert torch.equal(layer(asking, asked, sight), asking)  # two silent branches leave the residual path


def test_gate_by_hand():
    gated = GatedFusion(1)
    with torch.no_grad():
        gated.gate.weight.copy_(torch.tensor([[1.0, 2.0]]))
        gated.gate.bias.zero_()
    fused, gate = gated(torch.tensor([[[4.0]]]), torch.tensor([[[-2.0]]]))  # W [v; a] = 0, so half of each
    assert (float(gate.detach()), float(fused.detach())) == (0.5, 1.0)
    with torch.no_grad():
        gated.gate.bias.fill_(50)
    assert float(gated(torch.tensor([[[4.0]]]), torch.tensor([[[-2.0]]]))[0].detach()) == 4  # an open gate: visual


def test_stream_input_ignores_the_scale_of_an_encoder():
    stream, features = StreamInput(6, 4, 0.0), torch.randn(2, 5, 6)
    present = torch.ones(2, 5, dtype=torch.bool)
    rows = features.flatten(0, 1)
    stream.standardise(rows.mean(0), rows.std(0))
    expected = stream(features, present)
    scaled = 1000 * rows + 7
    stream.standardise(scaled.mean(0), scaled.std(0))
    torch.testing.assert_close(stream(1000 * features + 7, present), expected, rtol=1e-3, atol=1e-3)


def copy_weights(ours: TemporalEncoder, theirs: list[nn.GRU]) -> None:
    """Give torch's bidirectional GRUs, one per stream, the weights of our encoder."""
    with torch.no_grad():
        for layer, grus in enumerate(ours.layers):
            for number, gru in enumerate(grus):
                stream, direction = divmod(number, 2)
                for name, parameter in gru.named_parameters():
                    suffix = f"_l{layer}{'_reverse' * direction}"
                    getattr(theirs[stream], name.replace("_l0", suffix)).copy_(parameter)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_bidirectional_encoder_equals_torchs_on_packed_windows(num_layers):
    torch.manual_seed(0)
    ours = TemporalEncoder(2, 6, num_layers, 0.0, bidirectional=True)
    theirs = [nn.GRU(6, 3, num_layers, batch_first=True, bidirectional=True) for _ in range(2)]
    copy_weights(ours, theirs)
    states, lengths = torch.randn(2, 3, 7, 6), torch.tensor([7, 4, 2])
    mask = torch.arange(7) < lengths[:, None]
    got, got_full = ours(states, FrameOrder.of(mask)), ours(states, FrameOrder.of(torch.ones_like(mask)))
    for stream in range(2):
        packed = nn.utils.rnn.pack_padded_sequence(states[stream], lengths, batch_first=True)
        expected, _ = nn.utils.rnn.pad_packed_sequence(theirs[stream](packed)[0], batch_first=True)
        torch.testing.assert_close(got[stream][mask], expected[mask])
        torch.testing.assert_close(got_full[stream], theirs[stream](states[stream])[0])


def test_grus_side_by_side_have_torchs_gradients():
    torch.manual_seed(0)
    grus = [nn.GRU(5, 4, batch_first=True).double() for _ in range(3)]
    inputs = torch.randn(3, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    leaves = [inputs, *(parameter for gru in grus for parameter in gru.parameters())]
    weights = torch.randn(3, 2, 6, 4, dtype=torch.float64)
    expected = torch.stack([gru(own)[0] for gru, own in zip(grus, inputs, strict=True)])
    got = run_grus(grus, inputs)
    torch.testing.assert_close(got, expected)
    gradients = [torch.autograd.grad((output * weights).sum(), leaves) for output in (got, expected)]
    for own, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(own, theirs)


def test_grus_run_over_a_single_frame():
    grus = [nn.GRU(5, 4, batch_first=True)]
    inputs = torch.randn(1, 2, 1, 5, requires_grad=True)
    output = run_grus(grus, inputs)
    torch.testing.assert_close(output[0], grus[0](inputs[0])[0])
    output.sum().backward()
    assert float(inputs.grad.abs().min()) > 0


def test_locked_dropout_takes_a_channel_for_a_whole_window():
    torch.manual_seed(0)
    dropped = LockedDropout(0.25).train()(torch.ones(400, 6, 50))
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert torch.equal(LockedDropout(0.25).eval()(torch.ones(2, 3, 4)), torch.ones(2, 3, 4))


def test_a_step_runs_under_bfloat16_autocast():
    model, batch = make_model().train(), make_batch()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**batch)
    same_sign = torch.sign(output.va.float()) == torch.sign(make_model()(**batch).va)
    assert float(same_sign.float().mean()) > 0.9
    output.va.float().sum().backward()
    assert bool(torch.isfinite(model.inputs["visual"].project.weight.grad).all())


def test_a_feature_that_was_nearly_dead_in_training_cannot_drown_the_others():
    stream = StreamInput(2, 2, 0.0)
    stream.standardise(torch.tensor([1.0, 0.0]), torch.tensor([1e-9, 1.0]))  # halves near 1 lie .001 apart
    with torch.no_grad():
        stream.project.weight.copy_(torch.eye(2))
        stream.project.bias.zero_()
    states = stream(torch.tensor([[[1.001, 0.5], [60.0, -400.0]]]), torch.ones(1, 2, dtype=torch.bool))[0]
    assert float(states[0, 0].detach()) == pytest.approx(1.024, abs=1e-3)
    assert states[1].tolist() == [MAX_DEVIATIONS, -MAX_DEVIATIONS]


def test_inputs_are_standardised_by_the_training_statistics() -> None:
    stream = StreamInput(3, 3, 0.0)
    stream.standardise(torch.tensor([1.0, 0.0, 5.0]), torch.tensor([2.0, 1.0, 0.0]))
    with torch.no_grad():
        stream.project.weight.copy_(torch.eye(3))
        stream.project.bias.zero_()
    features = torch.tensor([[[3.0, 0.5, 7.0], [1.0, -2.0, 5.0]]])
    states = stream(features, torch.ones(1, 2, dtype=torch.bool))
    # (3 - 1) / 2; the last feature never changed in training and is left out
    torch.testing.assert_close(states, torch.tensor([[[1.0, 0.5, 0.0], [0.0, -2.0, 0.0]]]))
