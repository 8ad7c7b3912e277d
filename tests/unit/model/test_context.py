"""Learnable context in a frozen text tower: the same words in another way, and a package that needs no tower."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
import torch
from open_clip.transformer import TextTransformer
from safetensors.torch import load_file
from torch.nn.functional import normalize

from affectgrid.encoders.towers.text import TextTower, embed_texts
from affectgrid.encoders.visual import VisualEncoder, load_visual
from affectgrid.errors import ConfigError, ModelError
from affectgrid.model.context import ContextWords, RegionContext
from affectgrid.model.prompts import PromptBank, PromptHead
from affectgrid.training.build import build_model
from affectgrid.training.checkpoint import CheckpointFolder
from affectgrid.training.data import EncodedPrompts
from affectgrid.training.inference.package import load_package, save_package
from affectgrid.training.inference.predict import predict_split
from affectgrid.training.loop import fit
from affectgrid.training.text_features import encode_prompts
from support.planted import DIMS, planted_data, small_config

TEXTS = ["a photo of a person who is sad, bored or tired", "a photo of a calm person", "joy"]


@pytest.fixture(scope="module")
def encoder() -> VisualEncoder:
    torch.set_num_threads(1)
    return load_visual("tiny")


@pytest.fixture(scope="module")
def prompts(encoder: VisualEncoder, tmp_path_factory: pytest.TempPathFactory) -> EncodedPrompts:
    names = ["3x3-plain", "2x2-plain"]
    return encode_prompts(names, encoder, tmp_path_factory.mktemp("store"), modes=["context"])["3x3-plain"]


def words_of(encoder: VisualEncoder, texts: list[str]) -> ContextWords:
    embedded = encoder.embed_texts(texts)
    return ContextWords(embedded.tower, embedded.embeddings, embedded.ends, embedded.max_tokens)


def test_the_tower_gives_what_the_encoder_gives(encoder: VisualEncoder):
    words = words_of(encoder, TEXTS)
    torch.testing.assert_close(words.tower(words.embeddings, words.ends), encoder.encode_texts(TEXTS))


@pytest.mark.parametrize("shared", [True, False])
def test_context_that_is_the_embedding_of_words_equals_a_text_with_these_words(encoder: VisualEncoder, shared: bool):
    """CoOp by its own claim: vectors in the place of words. And what lies after the end token is never read."""
    context = RegionContext(words_of(encoder, TEXTS), 3, shared=shared, seed=0)
    front = "the face shows"  # three tokens
    with torch.no_grad():
        context.vectors.copy_(encoder.embed_texts([front]).embeddings[0, 1:4])
    torch.testing.assert_close(context(), encoder.encode_texts([f"{front} {text}" for text in TEXTS]))


def test_gradients_reach_the_vectors_and_nothing_else(encoder: VisualEncoder):
    words = words_of(encoder, TEXTS)
    for shared, size in ((True, (4, 8)), (False, (3, 4, 8))):
        context = RegionContext(words, 4, shared=shared, seed=0)
        assert {name: tuple(p.shape) for name, p in context.named_parameters()} == {"vectors": size}
        assert list(context.state_dict()) == ["vectors"]
        context().square().sum().backward()
        assert float(context.vectors.grad.flatten(0, -2).abs().amax(1).min()) > 0
    assert not any(p.requires_grad or p.grad is not None for p in words.tower.parameters())


def test_a_region_s_own_context_moves_that_region_alone(encoder: VisualEncoder):
    own = RegionContext(words_of(encoder, TEXTS), 4, shared=False, seed=0)
    before = own().detach()
    with torch.no_grad():
        own.vectors[1] += torch.arange(8.0)
    moved = (own().detach() - before).abs().amax(1) > 1e-6
    assert moved.tolist() == [False, True, False]


def test_too_much_context_is_refused_with_the_numbers(encoder: VisualEncoder):
    words = words_of(encoder, TEXTS)
    longest = int(words.ends.max()) + 1
    RegionContext(words, 77 - longest, shared=True, seed=0)()
    with pytest.raises(ConfigError, match=rf"CFG-CONTEXT .*{78 - longest} context tokens before a text of {longest}"):
        RegionContext(words, 78 - longest, shared=True, seed=0)


def test_words_travel_by_pickle_and_files_share_one_tower(encoder: VisualEncoder, tmp_path):
    sets = encode_prompts(["3x3-plain", "2x2-plain"], encoder, tmp_path, modes=["ensemble", "context"])
    sent = pickle.loads(pickle.dumps(sets))
    towers = [prompts.words.tower for prompts in sent.values()]
    assert towers[0] is towers[1]
    for name, prompts in sets.items():
        one, other = (RegionContext(p.words, 5, shared=True, seed=3) for p in (prompts, sent[name]))
        assert torch.equal(one(), other())
    assert len(pickle.dumps(sets["3x3-plain"].words)) < 100_000  # the table of 49,408 words stays behind
    assert encode_prompts(["3x3-plain"], encoder, tmp_path)["3x3-plain"].words is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"embed_cls": True}, "a token of its own"),
        ({"no_causal_mask": True, "pool_type": "last"}, "elsewhere than at its end token"),
        ({"pool_type": "first"}, "elsewhere than at its end token"),
        (None, "another kind"),
    ],
)
def test_a_tower_that_cannot_take_context_says_so(change: dict[str, object] | None, said: str):
    small = {"context_length": 8, "vocab_size": 10, "width": 8, "heads": 2, "layers": 1}
    tower = torch.nn.Linear(2, 2) if change is None else TextTransformer(**small, **change)
    with pytest.raises(ModelError, match=f"MOD-CONTEXT some/model: .*{said}.*take another prompt.mode"):
        embed_texts(tower, lambda texts: torch.zeros(len(texts), 8, dtype=torch.int64), ["x"], name="some/model")


def test_a_tower_that_reads_at_an_end_token_of_a_given_number():
    torch.manual_seed(0)
    tower = TextTransformer(8, 10, 8, 2, 1, pool_type="eos", eos_id=3, proj_bias=True, output_dim=6)
    tokens = torch.tensor([[1, 9, 3, 0, 0, 0, 0, 0], [1, 7, 8, 5, 3, 0, 0, 0]])
    embedded = embed_texts(tower, lambda texts: tokens, ["x", "y"], name="n")
    assert embedded.ends.tolist() == [2, 4]
    torch.testing.assert_close(embedded.tower(embedded.embeddings, embedded.ends), tower(tokens))


def test_an_image_tower_alone_serves_the_modes_that_read_no_text(encoder: VisualEncoder, tmp_path, monkeypatch):
    monkeypatch.setattr(encoder, "_tokenizer", None)
    for modes in (["learned"], ["learned", "none"]):
        features = encode_prompts(["2x2-plain"], encoder, tmp_path, modes=modes)["2x2-plain"].texts_features
        assert [tuple(text.shape) for text in features] == [(1, encoder.dim)] * 4
    for modes in (["learned", "fixed"], ["context"]):
        with pytest.raises(ModelError, match="MOD-TEXT"):
            encode_prompts(["2x2-plain"], encoder, tmp_path / "other", modes=modes)


def head_of(prompts: EncodedPrompts) -> PromptHead:
    bank = PromptBank.from_context(RegionContext(prompts.words, 4, shared=True, seed=0))
    torch.manual_seed(0)
    return PromptHead(6, bank.features, learnable=bank.learnable, context=bank.context)


def test_evaluation_uses_the_features_that_the_context_has_come_to(prompts: EncodedPrompts):
    head, states = head_of(prompts), torch.randn(1, 3, 6)
    with torch.no_grad():
        head.context.vectors += torch.arange(8.0)
        training = head.train()(states)
        head.eval()
    torch.testing.assert_close(head(states), training)
    torch.testing.assert_close(head.text_features, normalize(head.context().detach(), dim=-1))
    head.context = None  # as a package has it
    torch.testing.assert_close(head.eval()(states), training)


def test_copies_of_a_model_share_the_tower(prompts: EncodedPrompts):
    head = head_of(prompts)
    copied = copy.deepcopy(head)
    assert copied.context._words.tower is head.context._words.tower
    assert copied.context.vectors is not head.context.vectors
    assert next(head.to(torch.float64).context._words.tower.parameters()).device.type == "cpu"


@pytest.fixture(scope="module")
def data(prompts: EncodedPrompts):
    return dataclasses.replace(planted_data(), prompts={"3x3-plain": prompts})


def config_of(**settings: object):
    return small_config(prompt__mode="context", prompt__context_tokens=4, **settings)


@pytest.mark.parametrize("shared", [True, False])
def test_a_run_learns_context_and_its_package_predicts_without_a_text_encoder(data, tmp_path, shared: bool):
    config = config_of(optim__epochs=4, prompt__context_shared=shared, prompt__readout_blend=0.5)
    prompts = data.prompts["3x3-plain"]
    result = fit(config, data.train, data.validation, prompts)
    fresh = build_model(config, dims=DIMS, prompts=prompts)
    moved = (result.model.prompt_head.context.vectors - fresh.prompt_head.context.vectors).abs().flatten(0, -2)
    assert float(moved.detach().amax()) > 1e-3
    expected = predict_split(result.model, data.validation, config.window).va
    save_package(tmp_path / "model", result.model, config, prompts.grid, encoders={}, metrics=result.best)
    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert not [name for name in saved if "context" in name or "tower" in name]
    package = load_package(tmp_path / "model")
    assert package.model.prompt_head.context is None
    assert torch.equal(predict_split(package.model, data.validation, config.window).va, expected)


def test_a_resumed_run_ends_in_the_same_bits(data, tmp_path):
    config, folder = config_of(optim__epochs=3, optim__lr=0.02, prompt__labels="learned"), CheckpointFolder(tmp_path)
    whole = fit(config, data.train, data.validation, data.prompts["3x3-plain"])

    class KilledError(Exception):
        pass

    def report(metrics, save):
        folder.keep(metrics, save)
        if metrics["epoch"] == 2:
            raise KilledError

    with pytest.raises(KilledError):
        fit(config, data.train, data.validation, data.prompts["3x3-plain"], report=report)
    resumed = fit(config, data.train, data.validation, data.prompts["3x3-plain"], resume=folder.load())
    assert resumed.history == whole.history
    pairs = zip(resumed.model.state_dict().items(), whole.model.state_dict().values(), strict=True)
    assert all(torch.equal(own, theirs) for (_, own), theirs in pairs)


def test_prompts_that_came_without_the_encoder_are_refused():
    data = planted_data()
    with pytest.raises(ConfigError, match=r"CFG-CONTEXT prompt.mode.*give `prepare` the mode context"):
        fit(config_of(), data.train, data.validation, data.prompts["3x3-plain"])


def test_the_tower_is_frozen_and_a_copy(encoder: VisualEncoder):
    tower = encoder.embed_texts(["x"]).tower
    assert isinstance(tower, TextTower)
    assert not tower.training
    own = {p.data_ptr() for p in tower.parameters()}
    assert not own & {p.data_ptr() for p in encoder.network.parameters()}
